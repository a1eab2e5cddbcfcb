//! What a change needs beside a credential: JSON and the same origin, which no foreign page can make a browser send together.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

use crate::api::problem::Problem;

/// a read needs neither
pub(in crate::api) fn check(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    if !is_same_origin(headers) {
        return Err(Problem::forbidden("changes are made from this origin only"));
    }
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the change as Content-Type: application/json",
        ));
    }
    Ok(())
}

/// programs send no Origin; a browser's names the page
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    };
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_ascii_lowercase);
    let authority = text(origin).and_then(|origin| {
        let (scheme, authority) = origin.split_once("://")?;
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        Some(authority.strip_suffix(default_port).unwrap_or(authority).to_owned())
    });
    let host = headers.get(HOST).and_then(text);
    let host = host
        .map(|host| host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).map_or(host.clone(), str::to_owned));
    origins.next().is_none() && authority.is_some() && authority == host
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("application/merge-patch+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn r08_a_foreign_page_is_not_the_same_origin() {
        for (pairs, same) in [
            (vec![("host", "picket.example:9090")], true),
            (vec![("host", "picket.example:9090"), ("origin", "https://picket.example:9090")], true),
            (vec![("host", "picket.example"), ("origin", "https://picket.example")], true),
            (vec![("host", "picket.example"), ("origin", "https://PICKET.example:443")], true),
            (vec![("host", "picket.example:9090"), ("origin", "https://picket.example")], false),
            (vec![("host", "picket.example"), ("origin", "https://evil.example")], false),
            (vec![("host", "picket.example"), ("origin", "https://picket.example.evil.example")], false),
            (vec![("host", "picket.example"), ("origin", "null")], false),
            (vec![("origin", "https://picket.example")], false),
            (vec![("host", "picket.example"), ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(is_same_origin(&headers(&pairs)), same, "{pairs:?}");
        }
    }
}
