//! Object keys that act on the application instead of naming a field: prototype pollution and query operators.
//! Judged on the decoded key; a value is never judged here. Cost: two byte searches for the usual key.

pub(super) const PROTOTYPE_POLLUTION: &str = "prototype_pollution";
pub(super) const QUERY_OPERATOR: &str = "query_operator";

/// MongoDB's query, evaluation, update and pipeline operators, and the spellings that look-alikes of it accept.
/// `$schema`, `$ref`, `$id`, `$date`, `$oid` and their like describe data and are not here.
const OPERATORS: &[&str] = &[
    "accumulator",
    "addfields",
    "addtoset",
    "all",
    "and",
    "between",
    "bit",
    "bitsallclear",
    "bitsallset",
    "bitsanyclear",
    "bitsanyset",
    "cond",
    "currentdate",
    "div",
    "each",
    "elemmatch",
    "eq",
    "exists",
    "expr",
    "facet",
    "function",
    "geointersects",
    "geowithin",
    "graphlookup",
    "group",
    "gt",
    "gte",
    "in",
    "inc",
    "jsonschema",
    "like",
    "lookup",
    "lt",
    "lte",
    "match",
    "max",
    "merge",
    "min",
    "mod",
    "mul",
    "natural",
    "ne",
    "near",
    "nearsphere",
    "ni",
    "nin",
    "nor",
    "not",
    "options",
    "or",
    "out",
    "pipeline",
    "pop",
    "project",
    "pull",
    "pullall",
    "push",
    "pushall",
    "rand",
    "regex",
    "rename",
    "replaceroot",
    "sample",
    "search",
    "set",
    "setoninsert",
    "size",
    "slice",
    "switch",
    "text",
    "type",
    "unionwith",
    "unset",
    "unwind",
    "where",
    "xor",
];

/// A shorter key without `$` and `_` breaks no rule.
pub(super) const HARMLESS_BYTES: usize = "prototype".len();

/// The rule that a key breaks, if any. `constructor` followed by `prototype` as nested objects is the caller's to see.
pub(super) fn hostile(key: &str) -> Option<&'static str> {
    if memchr::memchr2(b'$', b'_', key.as_bytes()).is_none() && !key.contains("prototype") {
        return None;
    }
    let mut previous = "";
    for segment in key.split(['.', '[', ']']).map(str::trim).filter(|segment| !segment.is_empty()) {
        let segment = segment.trim_matches(['"', '\'']);
        if segment == "__proto__" || (previous == "constructor" && segment == "prototype") {
            return Some(PROTOTYPE_POLLUTION);
        }
        if is_operator(segment) {
            return Some(QUERY_OPERATOR);
        }
        previous = segment;
    }
    None
}

/// `$type` is both an operator and a common tag of serialised objects: the value decides.
pub(super) fn may_tag_a_type(key: &str) -> bool {
    key == "$type"
}

fn is_operator(segment: &str) -> bool {
    let Some(name) = segment.strip_prefix('$') else { return false };
    OPERATORS.iter().any(|operator| operator.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p07_paths_to_a_prototype_are_pollution() {
        for key in [
            "__proto__",
            "__proto__[x]",
            "a[__proto__]",
            "a.__proto__.b",
            "constructor.prototype",
            "a[constructor][prototype][b]",
        ] {
            assert_eq!(hostile(key), Some(PROTOTYPE_POLLUTION), "{key}");
        }
        for key in
            ["constructor", "prototype", "proto", "__proto", "my__proto__", "constructor.name", "prototypes_made"]
        {
            assert_eq!(hostile(key), None, "{key}");
        }
    }

    #[test]
    fn p08_operators_are_known_by_name_and_in_brackets() {
        for key in ["$ne", "$GT", "$where", "a[$ne]", "[$in]", "user.$regex", "a[b][$elemMatch]"] {
            assert_eq!(hostile(key), Some(QUERY_OPERATOR), "{key}");
        }
        for key in ["$", "$schema", "$ref", "$id", "$oid", "$date", "price$", "us$in", "a.$.b", "ne", "snake_case"] {
            assert_eq!(hostile(key), None, "{key}");
        }
    }
}
