//! The content of a payload: the strict pass over its JSON, and what its texts would do when an application shows them.
//!
//! # What is active
//!
//! A text is *active* if rendering it could run a script or make a browser load something without a click. Elements:
//! `script`; anything with an event handler (`on…=`); pictures, media, frames, plug-ins, `link`, `base`, style sheets; `meta
//! http-equiv`; `srcdoc`, `formaction`, a form's `action`; SVG animation of a link or a handler; a `style` that uses `url()`,
//! `expression()`, `behavior` and the like; any URL whose scheme runs (`javascript:`, `data:text/html`). Formatting is not
//! active: `<b>`, `<p style="color:red">`, `<a href="https://…">`, and neither is a bare name such as `Map<Object>`: without
//! a loading attribute the element does nothing. `List<script>` is active, because a browser does read a script there.
//!
//! The judgement has three steps, each only for what the one before could not clear: a byte filter; the *glance* (`tag`), which
//! reads a tag at every `<` in whatever state a parser might be and thus sees at least what any parser sees; and html5ever's
//! tokenizer (`html`), which clears what is hidden in comments and text areas. Where parsers disagree (SVG, MathML,
//! `noscript`, raw text: the stuff of mutation XSS) the glance is the verdict. Markup inside an attribute's value counts:
//! tooltips render it and old parsers fall out of the quotes. Entities as text (`&lt;script&gt;`) are text.
//!
//! A text may be put elsewhere than between tags. As a URL: a text that is a script URL, or has one where a link's target
//! stands, is active (`links`). Into an attribute: see `breakout`. Past a decoder: a text is judged in its canonical forms too
//! (`forms`): a browser does not take fullwidth `＜script＞` or `%3Cscript%3E` for a tag, but what stands behind may hand it
//! `<script>`. Such a form counts only if it is active as a whole, so that fullwidth punctuation and percentages are untouched.
//!
//! # What sanitising leaves
//!
//! An active text is written anew from its tokens with only formatting left; the result must be inert to the glance in every
//! form, otherwise, after a few rounds, every special character of the text is escaped. So the result does not depend on how
//! a parser mutates it, and sanitising it again changes nothing. A text that is not active is never touched.
//!
//! Everything is linear in the text. What would cost more (tags in tags in tags, hundreds of attributes, tens of kilobytes of
//! active markup) is not parsed: the glance is the verdict, escaping the cure.

mod breakout;
mod css;
mod entity;
mod forms;
mod html;
mod json;
mod keys;
mod links;
mod rules;
mod sanitize;
mod signals;
mod strings;
mod tag;
mod url;
mod verdict;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use json::{Bounds, Flaw, Scan, scan};
pub use sanitize::{any_active, is_active, sanitize_json, sanitize_text};
pub use signals::{Signal, SignalSet, signals, text_signals};
pub(crate) use strings::{encode_into as encode_text, texts};
