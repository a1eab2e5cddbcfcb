//! Cross-origin requests of polling clients (the Fetch standard's CORS protocol): what browsers are told, by `policy.cors`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use picket_shared::policy::{Origin, Rules};
use picket_shared::reason::Reason;

use crate::attempt::ClaimedOrigin;

/// how long a browser may remember a preflight
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// what a browser says of the page that it asks for
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// the origin of a request: browsers leave it out of a GET to a page's own site, and say so by a header that no page can set
pub fn origin(claimed: ClaimedOrigin, headers: &HeaderMap, scheme: &str, host: Option<&HeaderValue>) -> ClaimedOrigin {
    let is_same_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
    match (claimed, host.and_then(|host| host.to_str().ok())) {
        (ClaimedOrigin::Missing, Some(host)) if is_same_site => {
            Origin::parse(&format!("{scheme}://{host}")).map_or(ClaimedOrigin::Missing, ClaimedOrigin::Page)
        }
        (claimed, _) => claimed,
    }
}

/// lets the page read the answer, if its origin may connect; the answer is another one for each origin
pub fn allow(rules: &Rules, origin: &ClaimedOrigin, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let ClaimedOrigin::Page(page) = origin else {
        return;
    };
    let may_connect = rules.cors.allows(Some(page)) || rules.enforcement.pardons(Reason::OriginNotAllowed);
    let Some(page) = HeaderValue::from_str(&page.to_string()).ok().filter(|_| may_connect) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    if rules.document.cors.allow_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// the answer to a preflight of an origin that may connect
pub fn preflight(rules: &Rules) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let lists = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, &rules.document.cors.allowed_methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, &rules.document.cors.allowed_headers),
    ];
    for (name, list) in lists {
        if let Ok(list) = HeaderValue::from_str(&list.join(", ")) {
            response.headers_mut().insert(name, list);
        }
    }
    response.headers_mut().insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    response
}
