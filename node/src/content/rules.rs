//! What "could run or load" means, element by element and attribute by attribute. Both judges (the glance over raw text and
//! the tokens of a browser's parser) and the rewriting ask here, so that they cannot disagree.

use super::css;
use super::tag;
use super::url::{self, Place};

/// Elements whose `src` is fetched by itself.
const SRC_LOADERS: &[&str] = &[
    "img",
    "image",
    "input",
    "iframe",
    "frame",
    "embed",
    "audio",
    "video",
    "source",
    "track",
    "portal",
    "fencedframe",
    "bgsound",
    "xml",
    "layer",
    "ilayer",
    "vmlframe",
];
/// Elements whose `href` is fetched by itself, or changes what others fetch.
const HREF_LOADERS: &[&str] = &["link", "base", "use", "image", "feimage", "script", "mpath", "tref"];
const PLUGINS: &[&str] = &["object", "embed", "applet", "param"];
/// Attributes that hold a URL which somebody follows.
const LINKS: &[&str] = &[
    "href",
    "xlink:href",
    "src",
    "action",
    "formaction",
    "data",
    "cite",
    "longdesc",
    "usemap",
    "codebase",
    "to",
    "from",
    "values",
    "by",
    "xml:base",
    "background",
    "poster",
    "content",
];

/// Elements inside which parsers disagree on what is markup: by context, by version, or by whether scripts are on.
const AMBIGUOUS: &[&str] = &[
    "svg",
    "math",
    "noscript",
    "noembed",
    "noframes",
    "xmp",
    "plaintext",
    "iframe",
    "style",
    "template",
    "script",
    "frameset",
    "select",
];

/// Formatting that stays when a text is rewritten.
const FORMATTING: &[&str] = &[
    "a",
    "abbr",
    "acronym",
    "address",
    "article",
    "aside",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "center",
    "cite",
    "code",
    "col",
    "colgroup",
    "data",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "font",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "i",
    "ins",
    "kbd",
    "li",
    "main",
    "mark",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
    "wbr",
];
const FORMATTING_ATTRIBUTES: &[&str] = &[
    "align",
    "alt",
    "cite",
    "class",
    "color",
    "cols",
    "colspan",
    "datetime",
    "dir",
    "face",
    "headers",
    "height",
    "href",
    "hreflang",
    "lang",
    "open",
    "rel",
    "reversed",
    "role",
    "rowspan",
    "scope",
    "size",
    "span",
    "start",
    "style",
    "target",
    "title",
    "translate",
    "type",
    "valign",
    "value",
    "width",
];

/// Longer names are no element's.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// The name without a namespace prefix: `svg:script` is a script to an XML parser.
pub(super) fn local_name(element: &str) -> &str {
    if element.len() > NAME_BYTES_MAX {
        return "";
    }
    element.rsplit(':').next().unwrap_or(element)
}

/// True if the element, by its local name, acts whatever its attributes say.
pub(super) fn element_acts(local: &str, has_attributes: bool) -> bool {
    match local {
        "script" => true,
        "handler" | "listener" => has_attributes,
        _ => false,
    }
}

pub(super) fn is_ambiguous(local: &str) -> bool {
    AMBIGUOUS.contains(&local)
}

pub(super) fn is_formatting(element: &str) -> bool {
    FORMATTING.contains(&element)
}

/// True if the attribute may stay on a formatting element.
pub(super) fn may_stay(element: &str, name: &str, value: &str) -> bool {
    FORMATTING_ATTRIBUTES.contains(&name) && !attribute_acts(Some(element), name, value) && !tag::holds_markup(value)
}

/// True if the attribute makes its element run or load something. Without an element: on whatever element it may stand.
/// `name` in lower case, `value` decoded.
pub(super) fn attribute_acts(element: Option<&str>, name: &str, value: &str) -> bool {
    let on = |elements: &[&str]| element.is_none_or(|element| elements.contains(&local_name(element)));
    if is_handler(name) {
        return !value.is_empty();
    }
    let by_name = match name {
        "srcdoc" | "formaction" | "ping" | "lowsrc" | "dynsrc" | "http-equiv" | "ev:event" | "srcset"
        | "imagesrcset" | "poster" | "background" => !value.is_empty(),
        "style" => css::reaches_out(value),
        "src" => on(SRC_LOADERS) && url::fetches(value),
        "href" | "xlink:href" => element.is_some_and(|element| loads_href(local_name(element))) && url::fetches(value),
        "action" => on(&["form"]) && !value.is_empty(),
        "data" | "classid" | "codebase" | "archive" | "code" => on(PLUGINS) && !value.is_empty(),
        "manifest" => on(&["html"]) && !value.is_empty(),
        "charset" => on(&["meta"]) && is_utf7(value),
        "attributename" => animates_action(value),
        _ => false,
    };
    by_name || value_acts(name, value)
}

/// True if the element fetches what its `href` names. Without an element at hand the caller has to ask.
pub(super) fn loads_href(local: &str) -> bool {
    HREF_LOADERS.contains(&local)
}

/// The encoding in which `<` is spelled in letters.
fn is_utf7(charset: &str) -> bool {
    let charset = charset.to_ascii_lowercase();
    charset.contains("utf-7") || charset.contains("utf7")
}

fn is_handler(name: &str) -> bool {
    local_name(name)
        .strip_prefix("on")
        .is_some_and(|event| event.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// `<animate attributeName=href …>` and `<set attributeName=onclick …>` write what could not be written directly.
fn animates_action(target: &str) -> bool {
    let target = target.trim().to_ascii_lowercase();
    matches!(local_name(&target), "href" | "src" | "style" | "data") || is_handler(&target)
}

/// What acts in any attribute: a script URL, and the old `&{…}` script entity.
fn value_acts(name: &str, value: &str) -> bool {
    let place = if LINKS.contains(&name) { Place::Link } else { Place::Prose };
    url::runs(value, place) || value.starts_with("&{")
}
