//! The dashboard: files of `coordinator/dashboard/`, compiled in. They hold no data, so they need no login; what they show does.

use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

/// own files only, nothing inline, and no markup from strings
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; frame-src 'none'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'self'; require-trusted-types-for 'script'";

struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($path:literal, $kind:expr, $name:literal) => {
        File { path: $path, kind: $kind, text: include_str!(concat!("../../dashboard/", $name)) }
    };
}

const FILES: [File; 17] = [
    file!("/", HTML, "index.html"),
    file!("/dashboard/icon.svg", "image/svg+xml", "icon.svg"),
    file!("/dashboard/style.css", "text/css; charset=utf-8", "style.css"),
    file!("/dashboard/api.js", SCRIPT, "api.js"),
    file!("/dashboard/app.js", SCRIPT, "app.js"),
    file!("/dashboard/audit.js", SCRIPT, "audit.js"),
    file!("/dashboard/blocks.js", SCRIPT, "blocks.js"),
    file!("/dashboard/chart.js", SCRIPT, "chart.js"),
    file!("/dashboard/dom.js", SCRIPT, "dom.js"),
    file!("/dashboard/nodes.js", SCRIPT, "nodes.js"),
    file!("/dashboard/overview.js", SCRIPT, "overview.js"),
    file!("/dashboard/patch.js", SCRIPT, "patch.js"),
    file!("/dashboard/policy.js", SCRIPT, "policy.js"),
    file!("/dashboard/reference.js", SCRIPT, "reference.js"),
    file!("/dashboard/reports.js", SCRIPT, "reports.js"),
    file!("/dashboard/stream.js", SCRIPT, "stream.js"),
    file!("/dashboard/whatif.js", SCRIPT, "whatif.js"),
];

/// every file with its path
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> impl Iterator<Item = (&'static str, MethodRouter<S>)> {
    FILES.iter().map(|file| (file.path, get(async || file.serve())))
}

pub(super) fn is_page(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

impl File {
    fn serve(&self) -> Response {
        ([(CONTENT_TYPE, self.kind), (CONTENT_SECURITY_POLICY, POLICY)], self.text).into_response()
    }
}
