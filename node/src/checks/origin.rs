//! Admission 2: may this web page connect as its visitor (CSWSH, CWE-1385)? Comparisons in memory.

use picket_shared::audit::{IDENTIFIER_BYTES_MAX, printable};
use picket_shared::policy::CorsRules;
use picket_shared::reason::Reason;

use crate::attempt::ClaimedOrigin;
use crate::refusal::Denial;

pub fn check(cors: &CorsRules, origin: &ClaimedOrigin) -> Result<(), Denial> {
    let refused = |detail: String| Err(Denial::from(Reason::OriginNotAllowed).because(detail));
    match origin {
        ClaimedOrigin::Missing if cors.allows(None) => Ok(()),
        ClaimedOrigin::Missing => refused("no Origin header, and cors.allowMissingOrigin is false".into()),
        ClaimedOrigin::Page(page) if cors.allows(Some(page)) => Ok(()),
        ClaimedOrigin::Page(page) => refused(format!("{page} is not in cors.allowedOrigins")),
        ClaimedOrigin::Unusable(text) => refused(format!("not an origin: {}", printable(text, IDENTIFIER_BYTES_MAX))),
    }
}
