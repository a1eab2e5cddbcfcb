//! What must hold for every text: the laws of sanitising, over nasty fragments glued at random and over random strings.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use super::{html, tag, verdict};

/// Pieces of which attacks, mutations and honest texts are made.
const FRAGMENTS: &[&str] = &[
    "<",
    ">",
    "\"",
    "'",
    "`",
    "=",
    "/",
    " ",
    "\n",
    "\0",
    "&",
    ";",
    "%",
    "\\",
    "+",
    ":",
    "(",
    ")",
    "]",
    "[",
    "{",
    "!",
    "--",
    "#",
    "?",
    "<script>",
    "</script>",
    "<scr",
    "ipt>",
    "<svg>",
    "</svg>",
    "<math>",
    "<style>",
    "</style>",
    "<title>",
    "</title>",
    "<textarea>",
    "</textarea>",
    "<noscript>",
    "</noscript>",
    "<template>",
    "<table>",
    "<td>",
    "<select>",
    "<mtext>",
    "<mglyph>",
    "<foreignObject>",
    "<desc>",
    "<annotation-xml encoding=text/html>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "--!>",
    "<!DOCTYPE x [",
    "<?xml-stylesheet ",
    "<plaintext>",
    "<xmp>",
    "</xmp>",
    "<img src=x onerror=f()>",
    "<img",
    " src=x",
    " onerror=f()",
    " onload",
    " href=",
    " style=",
    " title=",
    "<a href=",
    "<b>",
    "</b>",
    "<p title=\"",
    "<x y='",
    "javascript:",
    "java\tscript:",
    "alert(1)",
    "data:text/html,",
    "url(x)",
    "&lt;",
    "&gt;",
    "&quot;",
    "&#60;",
    "&#x3c;",
    "&Tab;",
    "&colon;",
    "&amp;",
    "%3C",
    "%3c",
    "%253c",
    "%3E",
    "%22",
    "%00",
    "\\x3c",
    "\\u003c",
    "\\\"",
    "＜",
    "＞",
    "ｓcript",
    "ſcript",
    "\u{200b}",
    "\u{feff}",
    "%c0%bc",
    "text",
    "é",
    "😀",
    "on",
    "script",
    "](",
    "]:",
    "feed:",
    "onx=f(1)",
    "\" onx=f(1) y=\"",
    "a < b",
    "R&D",
    "<3",
];

fn nasty() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..14).prop_map(|parts| parts.concat())
}

fn check_laws(text: &str) {
    let once = sanitize_text(text);
    assert_eq!(is_active(text), matches!(once, Cow::Owned(_)), "rewritten exactly if active: {text:?}");
    assert!(!is_active(&once), "inert: {text:?} became {once:?}");
    assert_eq!(sanitize_text(&once), once, "idempotent: {text:?}");
    if is_active(text) {
        assert!(verdict::is_inert(&once), "settled: {text:?} became {once:?}");
        let cleaned = ammonia::clean(&once);
        assert_eq!(
            tag::glance(&cleaned),
            tag::Glance::Inert,
            "inert after a parser's round trip: {once:?} became {cleaned:?}"
        );
    }
    let json = serde_json::to_string(&[text]).unwrap();
    let clean: Vec<String> = serde_json::from_str(&sanitize_json(&json, None)).unwrap();
    assert_eq!(clean, [once.as_ref()], "alike in JSON: {text:?}");
    assert_eq!(any_active(&json, None), is_active(text));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p09_sanitising_is_stable_over_nasty_fragments(text in nasty()) {
        check_laws(&text);
    }

    #[test]
    fn p09_where_the_first_tag_acts_the_parser_says_so_too(text in nasty()) {
        prop_assert!(!tag::first_acts(&text) || html::acts(&text), "{}", text);
    }

    #[test]
    fn p09_sanitising_is_stable_over_random_text(text in any::<String>()) {
        check_laws(&text);
    }

    #[test]
    fn p11_what_is_not_active_is_delivered_as_it_came(text in "[a-zA-Z0-9 .,!?'\"&;()<>-]{0,60}") {
        prop_assume!(!is_active(&text));
        prop_assert_eq!(sanitize_text(&text), text.as_str());
    }

    #[test]
    fn p05_the_scan_accepts_only_what_serde_json_accepts(json in "[\\[\\]{}:,\"0-9eE+. \\\\nulltruefase-]{0,24}") {
        let bounds = Bounds { max_depth: 64, max_keys: 100, max_text_chars: 1000 };
        let ours = scan(&json, &bounds, None);
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&json);
        match ours {
            Ok(_) => prop_assert!(theirs.is_ok(), "{}", json),
            Err(Flaw::Malformed("duplicate_key")) => {}
            Err(_) => prop_assert!(theirs.is_err(), "{}", json),
        }
    }

    #[test]
    fn p09_p12_what_the_scan_clears_needs_no_look(texts in prop::collection::vec("[a-z0-9 :='\"\\\\<>&%;/（＜-]{0,12}", 1..4)) {
        let json = serde_json::json!({ "type": "chat:send", "texts": texts }).to_string();
        let name = Some(8..19);
        let bounds = Bounds { max_depth: 64, max_keys: 100, max_text_chars: 1000 };
        let learnt = scan(&json, &bounds, None).unwrap();
        prop_assert!(learnt.may_act || sanitize_json(&json, None) == json.as_str());
        prop_assert!(learnt.may_signal || signals(&json, None).is_empty());
        let of_the_rest = scan(&json, &bounds, name.clone()).unwrap();
        prop_assert!(of_the_rest.may_act || sanitize_json(&json, name.clone()) == json.as_str());
        prop_assert!(of_the_rest.may_signal || signals(&json, name).is_empty());
    }

    #[test]
    fn p05_no_input_makes_a_pass_fail(text in any::<String>(), keep in 0_usize..40) {
        let accepted = scan(&text, &Bounds { max_depth: 4, max_keys: 4, max_text_chars: 10 }, None).is_ok();
        prop_assert!(!accepted || serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
        prop_assert!(sanitize_json(&text, Some(keep..keep + 5)).len() <= 12 * text.len());
        prop_assert!(signals(&text, None).iter().count() <= Signal::ALL.len());
    }
}
