//! A text as a browser's parser reads it: html5ever's tokenizer, in the state that each element asks for. Judging sees tags
//! only where they are tags; rewriting keeps text and formatting and leaves out the rest.
//!
//! The tree builder is not needed: it decides where elements go, and which are dropped in which context, but an element
//! that one context drops another keeps. What a tree decides about tokens (foreign content, scripting) makes a text
//! *ambiguous*, and the glance has judged it.

use std::cell::{Cell, RefCell};

use html5ever::TokenizerResult;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use super::{rules, tag};

/// Closes whatever a cut-off tag leaves open: a name, a bare value or either kind of quote.
const CLOSING: &str = "/>\"'/>";

/// True if a tag that acts stands outside comments and plain text.
pub(super) fn acts(text: &str) -> bool {
    let judge = tokenize(Judge::default(), &[text, CLOSING]);
    judge.acts.get()
}

/// The text with only formatting left of its markup.
pub(super) fn rewritten(text: &str) -> String {
    let writer = tokenize(Writer::default(), &[text]);
    writer.output.into_inner()
}

fn tokenize<Sink: TokenSink>(sink: Sink, parts: &[&str]) -> Sink {
    let options = TokenizerOpts { discard_bom: false, ..TokenizerOpts::default() };
    let tokenizer = Tokenizer::new(sink, options);
    let queue = BufferQueue::default();
    for part in parts {
        queue.push_back(StrTendril::from(*part));
    }
    while let TokenizerResult::Script(_) = tokenizer.feed(&queue) {}
    tokenizer.end();
    tokenizer.sink
}

/// The state in which the tokenizer reads what follows a start tag.
fn content_of(element: &str) -> TokenSinkResult<()> {
    match element {
        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => TokenSinkResult::RawData(RawKind::Rawtext),
        "script" => TokenSinkResult::RawData(RawKind::ScriptData),
        "plaintext" => TokenSinkResult::Plaintext,
        _ => TokenSinkResult::Continue,
    }
}

#[derive(Default)]
struct Judge {
    acts: Cell<bool>,
}

impl TokenSink for Judge {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                self.acts.set(self.acts.get() || tag_acts(&tag));
                content_of(&tag.name)
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

/// A tag with a `<` in a name, or with one attribute twice, is another tag for parsers and filters that read it differently,
/// and the glance has flagged it. Markup in a value counts: tooltips render it.
fn tag_acts(tag: &Tag) -> bool {
    tag.name.contains('<')
        || tag.had_duplicate_attributes
        || rules::element_acts(rules::local_name(&tag.name), !tag.attrs.is_empty())
        || tag.attrs.iter().any(|attribute| {
            let name = &attribute.name.local;
            name.contains('<')
                || rules::attribute_acts(Some(&tag.name), name, &attribute.value)
                || tag::holds_markup(&attribute.value)
        })
}

#[derive(Default)]
struct Writer {
    output: RefCell<String>,
    /// The element whose content is no text for people.
    dropping: RefCell<Option<Box<str>>>,
}

impl TokenSink for Writer {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => match tag.kind {
                TagKind::StartTag => return self.start(&tag),
                TagKind::EndTag => self.end(&tag),
            },
            Token::CharacterTokens(text) if self.dropping.borrow().is_none() => {
                escape_text(&mut self.output.borrow_mut(), &text)
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Writer {
    fn start(&self, tag: &Tag) -> TokenSinkResult<()> {
        let content = content_of(&tag.name);
        if matches!(&*tag.name, "script" | "style" | "iframe" | "noembed" | "noframes") {
            *self.dropping.borrow_mut() = Some(Box::from(&*tag.name));
        }
        if rules::is_formatting(&tag.name) {
            write_tag(&mut self.output.borrow_mut(), tag);
        }
        content
    }

    fn end(&self, tag: &Tag) {
        if self.dropping.borrow().is_some() {
            *self.dropping.borrow_mut() = None;
        } else if rules::is_formatting(&tag.name) && !matches!(&*tag.name, "br" | "hr" | "wbr" | "col") {
            let mut output = self.output.borrow_mut();
            output.push_str("</");
            output.push_str(&tag.name);
            output.push('>');
        }
    }
}

fn write_tag(output: &mut String, tag: &Tag) {
    output.push('<');
    output.push_str(&tag.name);
    for attribute in &tag.attrs {
        let name = &attribute.name.local;
        if rules::may_stay(&tag.name, name, &attribute.value) {
            output.push(' ');
            output.push_str(name);
            output.push_str("=\"");
            escape_attribute(output, &attribute.value);
            output.push('"');
        }
    }
    output.push('>');
}

fn escape_text(output: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            other => output.push(other),
        }
    }
}

fn escape_attribute(output: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '"' => output.push_str("&quot;"),
            '\'' => output.push_str("&#39;"),
            '`' => output.push_str("&#96;"),
            other => escape_text(output, other.encode_utf8(&mut [0; 4])),
        }
    }
}
