//! The dashboard's files and its login sessions.

use http::Method;
use serde_json::json;
use std::time::Duration;

use super::office::{ADMIN, Office, PASSWORD, Reply};

const FILES: [&str; 4] = ["/", "/dashboard/app.js", "/dashboard/style.css", "/dashboard/icon.svg"];

pub async fn log_in(office: &Office) -> String {
    let reply = office.stranger().post("/login", json!({ "username": ADMIN, "password": PASSWORD })).await;
    assert_eq!(reply.data()["name"], ADMIN);
    let cookie = reply.header("set-cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(attribute), "{attribute}: {cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

pub async fn with_cookie(office: &Office, method: Method, path: &str, cookie: &str) -> Reply {
    office.stranger().asks(method, path, |request| request.header("Cookie", cookie).json(&json!({}))).await
}

#[tokio::test]
async fn r10_the_page_takes_nothing_inline_and_nothing_from_elsewhere() {
    let office = Office::open().await;
    for path in FILES {
        let reply = office.stranger().asks(Method::GET, path, |request| request).await;
        assert_eq!(reply.status, 200, "{path}");
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    let page = office.stranger().asks(Method::GET, "/", |request| request).await.text;
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<script>"), "{page}");
    assert_eq!(office.stranger().asks(Method::GET, "/dashboard/other.js", |request| request).await.status, 401);
}

#[test]
fn r10_no_script_reads_a_text_as_markup() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
            "http://",
            "https://",
        ] {
            let allowed = word == "http://" && (path.ends_with("dom.js") || path.ends_with("icon.svg"));
            assert!(allowed || !text.contains(word), "{word} in {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_login_opens_a_session_that_ends_with_the_logout() {
    let office = Office::open().await;
    let cookie = log_in(&office).await;
    assert_eq!(with_cookie(&office, Method::GET, "/api/security/nodes", &cookie).await.status, 200);
    let logout = with_cookie(&office, Method::POST, "/api/security/logout", &cookie).await;
    assert!(logout.header("set-cookie").contains("Max-Age=0"), "{}", logout.header("set-cookie"));
    with_cookie(&office, Method::GET, "/api/security/nodes", &cookie).await.fails_with(401);
    with_cookie(&office, Method::POST, "/api/security/logout", &cookie).await.fails_with(401);
    let record = office.audited("eventType=ADMIN_ACTION&text=logout", 1).await.remove(0);
    assert_eq!(record["metadata"]["actor"], ADMIN);
}

#[tokio::test]
async fn a_session_ends_after_eight_hours_and_a_made_up_one_is_none() {
    let office = Office::open().await;
    let cookie = log_in(&office).await;
    office.clock.advance(Duration::from_secs(8 * 3600 - 1));
    assert_eq!(with_cookie(&office, Method::GET, "/api/security/nodes", &cookie).await.status, 200);
    office.clock.advance(Duration::from_secs(1));
    with_cookie(&office, Method::GET, "/api/security/nodes", &cookie).await.fails_with(401);
    with_cookie(&office, Method::GET, "/api/security/nodes", "picket_session=0").await.fails_with(401);
    let health = with_cookie(&office, Method::GET, "/api/security/health", "picket_session=0").await.json();
    assert_eq!(health.as_object().unwrap().keys().collect::<Vec<_>>(), ["status"]);
}

#[tokio::test]
async fn r08_a_foreign_page_can_neither_log_in_nor_use_the_session() {
    let office = Office::open().await;
    let cookie = log_in(&office).await;
    let body = json!({ "username": ADMIN, "password": PASSWORD });
    let browser = office.stranger();
    for path in ["/api/security/login", "/api/security/logout", "/api/security/block-ip"] {
        let foreign = browser.asks(Method::POST, path, |request| {
            request.header("Cookie", &cookie).header("Origin", "https://evil.example").json(&body)
        });
        assert_eq!(foreign.await.status, 403, "{path}");
        let form = browser.asks(Method::POST, path, |request| {
            request.header("Cookie", &cookie).header("Content-Type", "text/plain").body(body.to_string())
        });
        assert_eq!(form.await.status, 415, "{path}");
    }
}

#[tokio::test]
async fn r09_guessing_by_login_is_slowed_too() {
    let office = Office::open().await;
    for n in 0..10 {
        office
            .stranger()
            .post("/login", json!({ "username": ADMIN, "password": format!("guess-{n}") }))
            .await
            .fails_with(401);
    }
    let slowed = office.stranger().post("/login", json!({ "username": ADMIN, "password": PASSWORD })).await;
    slowed.fails_with(429);
    assert!(slowed.header("set-cookie").is_empty());
}

#[tokio::test]
async fn r15_a_login_that_is_wrong_in_form_does_not_repeat_the_password() {
    let office = Office::open().await;
    let reply =
        office.stranger().post("/login", json!({ "username": 7, "password": 12_345_678, "remember": true })).await;
    assert_eq!(reply.mistakes(), ["password", "remember", "username"]);
    assert!(!reply.text.contains("12345678"), "{}", reply.text);
}
