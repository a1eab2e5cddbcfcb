//! The attack patterns, over the canonical form. One set, matched in one linear pass: the `regex` crate cannot backtrack, the
//! alphabet is ASCII, and the input is bounded by the caller.

use std::sync::LazyLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::{Signal, SignalSet};

pub(super) fn matches(form: &str) -> SignalSet {
    let mut found = SignalSet::default();
    for index in &PATTERN_SET.matches(form.as_bytes()) {
        if let Some((signal, _)) = PATTERNS.get(index) {
            found.insert(*signal);
        }
    }
    found
}

/// what the whole set may compile into
const PATTERNS_BYTES_MAX: usize = 4 << 20;

static PATTERN_SET: LazyLock<RegexSet> = LazyLock::new(|| {
    let sources = PATTERNS.iter().map(|(_, source)| format!("(?-u){source}"));
    // The table is a constant that a test compiles, so it never falls back to matching nothing.
    RegexSetBuilder::new(sources).size_limit(PATTERNS_BYTES_MAX).dfa_size_limit(16 << 20).build().unwrap_or_default()
});

use Signal::{
    CommandInjection, NosqlInjection, PathTraversal, PrototypePollution, ServerRequest, SqlInjection, TemplateInjection,
};

const PATTERNS: &[(Signal, &str)] = &[
    // A second query, or a query in a query.
    (SqlInjection, r"(\b|[0-9])union[ (]+((all|distinct|distinctrow)[ (]+)?select\b"),
    (SqlInjection, r"\bselect\b[^.?!\n]{0,120}[*(@',0-9][^?!\n]{0,120}\bfrom [\w(@`]"),
    (SqlInjection, r"\( ?select[ (@0-9'*]"),
    (
        SqlInjection,
        r"[;'\x22)0-9] ?;? ?(drop (table|database|user|view|column)|delete from|insert into|truncate (table )?\w|alter (table|database|user)|update \w+ set|create (table|user|database|function)|exec(ute)?( |\()(immediate|master|sp_|xp_|'|@|\()|declare @|shutdown\b|backup database|grant \w+ on)",
    ),
    // A comparison that is always the same.
    (
        SqlInjection,
        r"['\x22`)] ?\)* ?(or|and|xor|\|\||&&|having|where) ?[(!~+ -]*(not )?['\x22(]*[\w@.]+['\x22)]* ?(=|<|>|!=|like |is |between |in ?\(|rlike |regexp |sounds )",
    ),
    (
        SqlInjection,
        r"\b(or|and|xor|having|where)[ (!+~-]+(not )?[(]*['\x22]?[0-9][\w.]*['\x22]?\)* ?(=([^=]|$)|<|>|!=|like |is |between |in ?\(|rlike |regexp )",
    ),
    (SqlInjection, r"\b(or|and|having|where) ?[(]*'[^' ]*'\)* ?(=|<|>|!=|like |in ?\()"),
    (
        SqlInjection,
        r"['\x22] ?(=|<|>|\+|-|\*|/|\||%|^|<=>|like|div|mod) ?(['\x22(0-9@]|0x)[^ ]{0,40} ?(--|#|;|/\*|or |and )",
    ),
    (SqlInjection, r"['\x22] ?\)* ?(or|and|xor|\|\||&&) ?\(?['\x22]?[\w@]*['\x22)]* ?(--|#|/\*|;)"),
    // The rest of the query cut off.
    (SqlInjection, r"[\w)]?['\x22][ );]*(--|#|/\*|;?\x00)[^\w]*$"),
    (SqlInjection, r"\b(order|group) by [0-9]+( ?(,|--|#|/\*|;|$))"),
    (
        SqlInjection,
        r"['\x22)] ?(order|group) by \w|['\x22)0-9] ?(limit [0-9]+|procedure analyse|into (out|dump)file|collate \w|having [\w(]|waitfor delay)",
    ),
    // Functions and tables that only an attacker asks for.
    (
        SqlInjection,
        r"(\b(select|and|or|by|xor|when|then)|[,=;|&'(+-]) ?\(*(sleep|benchmark|pg_sleep|dbms_pipe\.receive_message|dbms_lock\.sleep|randomblob) ?\( ?[0-9'\x22(@]",
    ),
    (
        SqlInjection,
        r"\b(extractvalue|updatexml|load_file|json_keys|xmltype|gtid_subset|utl_inaddr\.|utl_http\.|ctxsys\.|dbms_\w+\.|sp_executesql|sp_oacreate|xp_cmdshell|xp_dirtree|xp_regread|make_set|group_concat|concat_ws|char_length|unhex) ?\(?.*[(@0-9']",
    ),
    (SqlInjection, r"\bwaitfor (delay|time) ?['\x22(0-9]|\binto (out|dump)file ?['\x22(0-9]|\bprocedure analyse ?\("),
    (
        SqlInjection,
        r"@@(version|hostname|datadir|servername|basedir|global)|\binformation_schema\b|\b(sys\.?objects|syscolumns|all_tables|all_users|pg_catalog|pg_shadow|sqlite_master|mysql\.(user|db)|msysobjects)\b",
    ),
    (
        SqlInjection,
        r"\b(char|chr|concat|ascii|substring|substr|mid|ord|hex|elt|convert|cast|if|ifnull|iif|case)[ (]+[^?!]{0,60}\b(select|0x[0-9a-f]{4}|char\(|chr\(|user\(|version\(|database\(|@@)",
    ),
    (
        SqlInjection,
        r"\b(select|,|=|\+|-) ?(user|version|database|system_user|current_user|session_user|schema) ?\( ?\)",
    ),
    // Paths out of their directory.
    (PathTraversal, r"(([^\x00-\x7f ]{0,6}(\.|0x2e)|\?\.|\.\?){1,4}([^\x00-\x7f]{1,6}|/|%|0x2f|0x5c|;)+){3}"),
    (
        PathTraversal,
        r"(\.\.|0x2e0x2e|\?\.|%c0\.)(/|[^a-z0-9 ]{1,12}|0x2f|0x5c)+[\w/%]{0,40}(etc|windows|winnt|boot\.ini|win\.ini|proc|passwd|web-inf|\.env|\.git|\.ssh|\{file\})\b",
    ),
    (
        PathTraversal,
        r"(^|[/=:;,\x22' ])/?etc[^a-z0-9 ]{1,8}(passwd|shadow|hosts|issue|group|master\.passwd|sudoers|crontab)\b|\b(boot|win|system)\.ini\b|\bwin(dows|nt)[^a-z0-9 ]{1,8}(system32|win\.ini|repair)|/proc/(self|[0-9]+)/|\.\.%[0-9a-f]{2}",
    ),
    // A second command.
    (
        CommandInjection,
        r"(;|\||&&|&|`|\$\(|\n|^\(|%0a) ?(sudo )?(/?(usr/|s?bin/|local/)*)(cat|tac|ls|id|whoami|uname|pwd|wget|curl|nc|ncat|netcat|telnet|bash|sh|zsh|ksh|csh|dash|python[0-9.]*|perl|ruby|php|node|ping|nslookup|dig|rm|cp|mv|chmod|chown|env|printenv|echo|printf|sleep|ifconfig|ipconfig|netstat|ps|kill|killall|trap|gcc[0-9.]*|cc|c[89]9|gawk|xargs|dd|fold|comm|od|xxd|base64|rev|crontab|mysql|psql|socat|ssh|scp|ftp|tftp|eval|source|dir|net|cmd|powershell|systeminfo|tasklist|timeout|chef-shell|busybox)(\.exe)?( [-'\x22/.$<>|&\\~]|[;|&`)<$]| \w+[./:_-]| ?[0-9]| ?$| passwd| http| \w+ passwd)",
    ),
    (
        CommandInjection,
        r"\(\) ?\{ ?:? ?;? ?\} ?;|\$\{ifs|\$ifs\b|\$\{?[a-z]+\}?\$\(|<<<|\$\(\(?[a-z/]|`[a-z/]+( [^`]*)?`;|^`[a-z/]+`$|\$\{cmd\}",
    ),
    (
        CommandInjection,
        r"/s?bin/(ba|z|k|c|da|a)?sh\b|/usr/s?bin/\w+|\bcmd(\.exe)? /[ck]\b|\bpowershell(\.exe)? +-|\bcertutil\b.*-urlcache|/dev/(tcp|udp)/",
    ),
    (
        CommandInjection,
        r"\bfor( /[dflr]( \x22[^\x22]*\x22)?)? %{1,2}[a-z0-9] in ?\(|\bif( /i)?( not)? (\x22?%?[^ ]*%?\x22? ?(==|\b(equ|neq|lss|leq|gtr|geq)\b)|(not )?(exist|defined|errorlevel|cmdextversion) )|\bif +\(?[0-9]+ (equ|neq|lss|leq|gtr|geq) ",
    ),
    // The rest of what a log should show.
    (
        NosqlInjection,
        r"\[\$?(\$ne|\$eq|\$gte?|\$lte?|\$n?in|\$regex|\$where|\$exists|\$or|\$and|\$not)\]|\$(where|ne|eq|gte?|lte?|nin|regex|or|and|exists|elemmatch)['\x22]? ?:|; ?return ?\(?(true|1)|\bdb\.\w+\.(insert|find|drop|remove|update)\w* ?\(",
    ),
    (
        PrototypePollution,
        r"__proto__(\.|\[|\]|['\x22]? ?[:=])|\[['\x22]?__proto__|\bconstructor['\x22]?\]?(\.|\[['\x22]?)prototype['\x22]?(\[|\]|\.| ?=)",
    ),
    (
        TemplateInjection,
        r"\$\{(jndi|env|sys|lower|upper|java|ctx)[:.]|\$\{[^}]*(\$\{|::-)|\{\{[^}]*([0-9] ?\* ?[0-9]|__|config|constructor|self\.|request\.)|<%=?[^%]*[0-9(.][^%]*%>|#\{[^}]*[(*]|\$\{[0-9 ]+[*+][0-9 ]+\}|\$\{t\(",
    ),
    (
        ServerRequest,
        r"\b169\.254\.169\.254\b|\bmetadata\.google\.internal\b|\[::ffff:a9fe:a9fe\]|\b(gopher|dict|php|phar|expect|netdoc)://|\blatest/(meta|user)-data\b|://(127\.[0-9]+\.|localhost\b|\[::1\]|0x7f|0\.0\.0\.0)|@127\.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_every_pattern_compiles() {
        assert_eq!(PATTERN_SET.len(), PATTERNS.len());
    }

    /// far more than the caller ever hands over, of what keeps most patterns busy
    #[test]
    fn p13_a_mebibyte_meets_all_patterns_in_milliseconds() {
        const MIB: usize = 1 << 20;
        let most = std::time::Duration::from_millis(if cfg!(debug_assertions) { 20_000 } else { 500 });
        for unit in [
            "' or ", "select ", "char(", "../", "a.b ", "${", "<%=", "union(", "\x22=1 ", "; ", "1 and 1", "(((", "..%",
        ] {
            let text = unit.repeat(MIB / unit.len());
            let start = picket_shared::clock::thread_time();
            std::hint::black_box(matches(&text));
            let took = picket_shared::clock::thread_time() - start;
            println!("p13: {:>6.1} ms per MiB of {unit:?}", took.as_secs_f64() * 1000.0);
            assert!(took < most, "{unit:?}: {took:?}");
        }
    }

    /// an engine that backtracks is nowhere but under the schema library, which is told not to use it
    #[test]
    fn p13_no_engine_that_backtracks_reads_what_clients_write() {
        let lock = include_str!("../../../../Cargo.lock");
        let packages: Vec<_> = lock.split("[[package]]").collect();
        let named = |package: &str| package.lines().find_map(|line| line.strip_prefix("name = ")).map(str::to_owned);
        let users =
            packages.iter().filter(|package| package.contains("\n \"fancy-regex\",")).filter_map(|one| named(one));
        let users: Vec<_> = users.collect();
        assert!(users.iter().all(|user| user == "\"jsonschema\""), "{users:?}");
        for engine in ["pcre", "pcre2", "onig", "hyperscan", "regress"] {
            assert!(!lock.contains(&format!("name = \"{engine}\"")), "{engine}");
        }
    }
}
