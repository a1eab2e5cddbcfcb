//! A listener of `GET /stream`: server-sent events, one after the other.

use std::time::Duration;

use serde_json::Value;

/// how long a record may be on its way, a change of the leading coordinator included
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Events {
    response: reqwest::Response,
    text: String,
}

/// An audit record as it was told.
pub struct Told {
    pub id: String,
    pub record: Value,
}

impl Events {
    pub async fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        Self { response, text: String::new() }
    }

    /// The next audit record.
    pub async fn hears(&mut self) -> Told {
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                let block = self.block().await;
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
                };
                assert_ne!(field("event").as_deref(), Some("lost"), "{block}");
                if field("event").as_deref() == Some("audit") {
                    let record = serde_json::from_str(&field("data").expect("data")).unwrap();
                    return Told { id: field("id").expect("an id"), record };
                }
            }
        });
        told.await.expect("an audit record on the stream")
    }

    async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}
