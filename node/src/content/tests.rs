//! The rows of ACCEPTANCE.md as seen from outside the module.

use std::borrow::Cow;

use super::*;

const BOUNDS: Bounds = Bounds { max_depth: 64, max_keys: 1000, max_text_chars: 100 };

fn flaw(json: &str) -> Flaw {
    scan(json, &BOUNDS, None).expect_err(json)
}

fn passes(json: &str) {
    if let Err(flaw) = scan(json, &BOUNDS, None) {
        panic!("{json} is refused: {flaw:?}");
    }
}

#[test]
fn p01_text_is_measured_in_characters_after_decoding() {
    let text = |length: usize, unit: &str| format!("\"{}\"", unit.repeat(length));
    for unit in ["a", "é", "😀", r"\u00e9", r"\ud83d\ude00", r"\n"] {
        passes(&text(100, unit));
        assert_eq!(flaw(&text(101, unit)), Flaw::TextTooLong, "{unit}");
    }
    assert_eq!(flaw(&format!("{{{}:1}}", text(101, "k"))), Flaw::TextTooLong);
}

#[test]
fn p02_nesting_beyond_the_bound_is_refused_without_recursion() {
    passes(&format!("{}{}", "[".repeat(64), "]".repeat(64)));
    assert_eq!(flaw(&format!("{}{}", "[".repeat(65), "]".repeat(65))), Flaw::TooDeep);
    assert_eq!(flaw(&"[".repeat(1_000_000)), Flaw::TooDeep);
    let deep = Bounds { max_depth: usize::MAX, ..BOUNDS };
    assert!(scan(&format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000)), &deep, None).is_ok());
}

#[test]
fn p03_duplicate_keys_are_malformed() {
    for json in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"c":1,"d":2,"c":3}}]"#, r#"{"":1,"":1}"#] {
        assert_eq!(flaw(json), Flaw::Malformed("duplicate_key"), "{json}");
    }
    passes(r#"[{"a":1},{"a":{"a":1},"b":[{"a":1}],"A":1}]"#);
    let many: Vec<_> = (0..200).map(|key| format!("\"k{key}\":0")).collect();
    passes(&format!("{{{}}}", many.join(",")));
    assert_eq!(flaw(&format!("{{{},\"k3\":0}}", many.join(","))), Flaw::Malformed("duplicate_key"));
}

#[test]
fn p05_what_is_not_strict_json_is_malformed() {
    for json in [
        "",
        " ",
        "nul",
        "NaN",
        "-Infinity",
        "[1,]",
        "{\"a\":1,}",
        "{,}",
        "[,1]",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "'a'",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "\u{feff}1",
        "1 2",
        "[]x",
        "\"\t\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"",
        "[",
        "{\"a\":",
        "// c\n1",
        "[1]]",
        "{\"a\":1]",
        "[\u{a0}1]",
    ] {
        assert!(matches!(flaw(json), Flaw::Malformed(_)), "{json:?}");
    }
    for json in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#"{"\udead":1}"#, r#""\ud83dx""#] {
        assert_eq!(flaw(json), Flaw::Malformed("lone_surrogate"), "{json}");
    }
    for json in ["null", " [ ] ", "-0", "1e-5", "1.5E+3", "{\"\":{}}", "\"\\u0000\\/\"", "[true,false,null]"] {
        passes(json);
    }
}

#[test]
fn p06_the_number_of_keys_is_bounded_over_the_whole_payload() {
    let objects = vec![r#"{"a":1}"#; 1001].join(",");
    assert_eq!(flaw(&format!("[{objects}]")), Flaw::Malformed("too_many_keys"));
}

#[test]
fn p07_prototype_pollution_is_hostile_at_any_depth_and_in_any_escape() {
    for json in [
        r#"{"__proto__":{"x":1}}"#,
        r#"[{"a":{"__proto__":null}}]"#,
        r#"{"\u005f_proto_\u005f":1}"#,
        r#"{"constructor":{"prototype":{}}}"#,
        r#"{"a":{"constructor" : { "b":1, "prototyp\u0065":1}}}"#,
        r#"{"constructor.prototype.x":1}"#,
        r#"{"a[__proto__][b]":1}"#,
    ] {
        assert_eq!(flaw(json), Flaw::Hostile("prototype_pollution"), "{json}");
    }
    for json in [
        r#"{"a":"__proto__"}"#,
        r#"{"constructor":null}"#,
        r#"{"constructor":{"name":"x"}}"#,
        r#"{"prototype":{"constructor":1}}"#,
        r#"{"constructor":[{"prototype":1}]}"#,
        r#"{"constructor":{"a":{"prototype":1}}}"#,
    ] {
        passes(json);
    }
}

#[test]
fn p08_query_operators_as_keys_are_hostile() {
    for json in [
        r#"{"user":{"$ne":null}}"#,
        r#"{"$where":"1"}"#,
        r#"{"a[$gt]":""}"#,
        r#"{"\u0024in":[]}"#,
        r#"{"a":{"$type":2}}"#,
    ] {
        assert_eq!(flaw(json), Flaw::Hostile("query_operator"), "{json}");
    }
    for json in [
        r#"{"$schema":"x"}"#,
        r#"{"$":"9.99"}"#,
        r##"{"$ref":"#/a"}"##,
        r#"{"a":"$ne"}"#,
        r#"{"$type":"app.chat.message"}"#,
    ] {
        passes(json);
    }
}

#[test]
fn p04_the_scan_says_when_texts_need_a_look() {
    let suspect = |json| scan(json, &BOUNDS, None).unwrap().may_act;
    for json in [r#"["hi there, 5 of you"]"#, r#"{"<a>":"key","n":-1.5e3}"#] {
        assert!(!suspect(json), "{json}");
    }
    for json in [r#"["<b>"]"#, r#"["\u003cb>"]"#, r#"["%3cb>"]"#, r#"["＜b＞"]"#, r#"["javascript:f()"]"#] {
        assert!(suspect(json), "{json}");
    }
}

#[test]
fn p09_what_runs_or_loads_is_active() {
    for text in [
        "<script>f()</script>",
        "<SCRIPT/x>",
        "List<script>",
        "<img src=x>",
        "<b onclick=f()>x</b>",
        "<svg/onload=f()>",
        "<a href=javascript:f()>x</a>",
        "<a href=\"java&#9;script:f()\">x</a>",
        "<iframe srcdoc=x>",
        "<object data=x>",
        "<link rel=stylesheet href=//a>",
        "<base href=//a>",
        "<meta http-equiv=refresh content=0>",
        "<style>@import 'x'</style>",
        "<p style=\"background:url(//a)\">",
        "<form action=//a>",
        "<button formaction=x>",
        "<svg><animate attributeName=href to=x>",
        "<svg><use href=//a#b>",
        "<math href=javascript:f()>",
        "</title><script>",
        "<body onload=f()>",
        "<td onclick=f()>",
        "<template><img src=x></template>",
        "<video poster=x>",
        "<img src=x",
        "<b onclick=f(",
    ] {
        assert!(is_active(text), "{text}");
    }
}

#[test]
fn p09_sanitising_leaves_the_text_and_its_formatting() {
    for (text, expected) in [
        ("<b>hi</b><script>f()</script> there", "<b>hi</b> there"),
        ("<p onclick=f()>R&D <i>x</i></p>", "<p>R&amp;D <i>x</i></p>"),
        ("<a href=\"https://a.b/?c=d&e\" onmouseover=f()>x</a>", "<a href=\"https://a.b/?c=d&amp;e\">x</a>"),
        ("<a href=javascript:f()>x</a>", "<a>x</a>"),
        ("<img src=x onerror=f()>a < b", "a &lt; b"),
        ("<style>p{}</style><em style='color:red;'>x</em>", "<em style=\"color:red;\">x</em>"),
        ("javascript:f()", "f()"),
    ] {
        assert_eq!(sanitize_text(text), expected, "{text}");
    }
}

#[test]
fn p09_mutations_find_nothing_to_mutate() {
    for text in [
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=f()&gt;\">",
        "<svg></p><style><a id=\"</style><img src=1 onerror=f()>\">",
        "<noscript><p title=\"</noscript><img src=x onerror=f()>\">",
        "<form><math><mtext></form><form><mglyph><style></math><img src onerror=f()>",
        "<svg><![CDATA[><img src=x onerror=f()>]]>",
        "<title><a title=\"</title><img src=x onerror=f()>\">",
    ] {
        let clean = sanitize_text(text);
        assert!(matches!(clean, Cow::Owned(_)), "{text}");
        assert!(verdict::is_inert(&clean) && !is_active(&clean), "{text} became {clean}");
    }
}

#[test]
fn p10_disguised_attacks_are_active_and_inert_after_sanitising() {
    for text in [
        "＜script＞f()＜/script＞",
        "<scr\0ipt>f()</script>",
        "%3Cscript%3Ef()%3C/script%3E",
        r"\u003cimg src=x onerror=f()\u003e",
        "<ſcript>f()</script>",
        "<a href=\"jav\nascript:f()\">x",
        "<a href=\"&#x6A;avascript:f()\">x",
        "%c0%bcscript>f()",
        "ｊａｖａｓｃｒｉｐｔ：f()",
        "\" onfocus=f() autofocus x=\"",
        "<script+>f()</script+>",
        "&#106;avascript:f()",
    ] {
        assert!(is_active(text), "{text}");
        let clean = sanitize_text(text);
        assert!(verdict::is_inert(&clean) && !is_active(&clean), "{text} became {clean}");
    }
}

#[test]
fn p11_honest_text_arrives_byte_for_byte() {
    for text in [
        "a < b",
        "I <3 you",
        "R&D",
        "x<y && y>z",
        "Vec<String>",
        "if (a<b && c>d) { e = f(g) }",
        "&lt;script&gt;",
        "👍 <3",
        "Map<Object, List<Style>> m = f();",
        "use <b>bold</b> and <i>italics</i>",
        "<a href=\"https://a.b/c?d=e&f=g\">x</a>",
        "mail <me@a.b> or <https://a.b>",
        "100% of 5:30 = ok",
        "JavaScript: The Good Parts",
        "C:\\new\\x",
        "{\"a\":\"b=c\",\"d\":\"e\"}",
        "「選択」して＜次へ＞を",
        "<p style=\"color:red\">x</p>",
        "<T, U extends V<T>>",
        "let x = \"a\" + 'b' < c",
        "git commit -m \"fix: a=b\" && on",
        "<!-- a note -->",
        "<?php echo 1; ?>",
        "<textarea><img src=x></textarea>",
    ] {
        assert!(
            matches!(sanitize_text(text), Cow::Borrowed(same) if same == text),
            "{text} became {}",
            sanitize_text(text)
        );
    }
}

#[test]
fn p11_only_active_values_of_a_payload_are_rewritten() {
    let json = r#"{ "<script>" : "a < b\n", "x": ["<b>\u0068i</b><script>f()</script>", 1.50, "\u00e9"] }"#;
    let expected = r#"{ "<script>" : "a < b\n", "x": ["<b>hi</b>", 1.50, "\u00e9"] }"#;
    assert_eq!(sanitize_json(json, None), expected);
    assert!(matches!(sanitize_json(expected, None), Cow::Borrowed(_)));
    let event = r#"["<script>","<script>x"]"#;
    assert_eq!(sanitize_json(event, Some(2..10)), r#"["<script>",""]"#);
    assert!(any_active(event, Some(1..11)) && !any_active(r#"["<script>"]"#, Some(1..11)));
}
