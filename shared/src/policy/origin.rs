//! Web origins (RFC 6454): parsed, then compared whole. No substring ever decides.

use url::{Host, Url};

/// the longest Origin header that is looked at; a host name has at most 253 characters
const ORIGIN_BYTES_MAX: usize = 300;

/// scheme, host and port of a page
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// reads an `Origin` header; anything that a browser would not send (`null`, lists, paths, user info) is `None`
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > ORIGIN_BYTES_MAX {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let origin = Origin {
            scheme: url.scheme().to_owned(),
            host: url.host()?.to_owned(),
            port: url.port_or_known_default()?,
        };
        // The serialisation (RFC 6454 section 6.2) must be the text itself: that leaves no second reading of it.
        let same = [origin.to_string(), origin.with_default_port()].iter().any(|own| own.eq_ignore_ascii_case(text));
        (matches!(url.scheme(), "http" | "https") && same && origin.is_plain()).then_some(origin)
    }

    /// whether a host name has the letters that host names have, so that no pattern's star can be claimed
    fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !matches!(&self.host, Host::Domain(name) if !name.bytes().all(plain))
    }

    pub fn is_localhost(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    fn with_default_port(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let default_port = if self.scheme == "https" { 443 } else { 80 };
        if self.port == default_port {
            write!(f, "{}://{}", self.scheme, self.host)
        } else {
            write!(f, "{}", self.with_default_port())
        }
    }
}

/// an entry of `cors.allowedOrigins`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    Any,
    Exact(Origin),
    /// sub-domains of `parent`, at any depth, not the parent itself
    Subdomains {
        scheme: String,
        parent: String,
        port: u16,
    },
}

impl OriginPattern {
    /// what is wrong with the text, said to its author, or the pattern
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(OriginPattern::Any);
        }
        let not_an_origin = || {
            format!(
                "`{text}` is not an origin: write scheme and host, such as https://app.example.com or https://*.example.com"
            )
        };
        let Some((scheme, rest)) = text.split_once("://*.") else {
            // An administrator may write a host in upper case or with a trailing slash; a client may not.
            let normal = text.trim_end_matches('/').to_ascii_lowercase();
            return Origin::parse(&normal).map(OriginPattern::Exact).ok_or_else(not_an_origin);
        };
        let parent = Origin::parse(&format!("{scheme}://{rest}").to_ascii_lowercase()).ok_or_else(not_an_origin)?;
        match parent.host {
            Host::Domain(name) if name.contains('.') => {
                Ok(OriginPattern::Subdomains { scheme: parent.scheme, parent: name, port: parent.port })
            }
            _ => Err(format!(
                "`{text}` would allow every host of a top-level domain: name at least two labels after `*.`"
            )),
        }
    }

    pub fn matches(&self, origin: &Origin) -> bool {
        match self {
            OriginPattern::Any => true,
            OriginPattern::Exact(allowed) => allowed == origin,
            OriginPattern::Subdomains { scheme, parent, port } => {
                let Host::Domain(name) = &origin.host else {
                    return false;
                };
                let label = name.strip_suffix(parent.as_str()).and_then(|rest| rest.strip_suffix('.'));
                *scheme == origin.scheme && *port == origin.port && label.is_some_and(|label| !label.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h02_only_the_very_origin_matches() {
        let pattern = OriginPattern::parse("https://app.example.com").unwrap();
        let allowed = |text: &str| Origin::parse(text).is_some_and(|origin| pattern.matches(&origin));
        assert!(allowed("https://app.example.com"));
        assert!(allowed("https://app.example.com:443"));
        assert!(allowed("https://APP.example.com"));
        for other in [
            "https://app.example.com.evil.test",
            "https://evilapp.example.com",
            "https://evil.test/https://app.example.com",
            "https://app.example.com@evil.test",
            "https://user@app.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.",
            "https://app.example.com/",
            "https://app.example.com https://evil.test",
            "https://app.example.com, https://evil.test",
            "https://app.ехample.com",
            "https://app.example.com\\.evil.test",
            "null",
            "",
        ] {
            assert!(!allowed(other), "{other}");
        }
    }

    #[test]
    fn h02_sub_domains_match_below_their_parent_only() {
        let pattern = OriginPattern::parse("https://*.example.com").unwrap();
        let allowed = |text: &str| Origin::parse(text).is_some_and(|origin| pattern.matches(&origin));
        assert!(allowed("https://a.example.com") && allowed("https://a.b.example.com"));
        for other in [
            "https://*.example.com",
            "https://example.com",
            "https://evilexample.com",
            "https://.example.com",
            "http://a.example.com",
        ] {
            assert!(!allowed(other), "{other}");
        }
        assert!(OriginPattern::parse("https://*.com").is_err());
    }
}
