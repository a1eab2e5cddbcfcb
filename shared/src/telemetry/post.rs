//! How exports over HTTP are sent: by the client that the process has anyway, on its runtime.
//!
//! The exporters' threads have no runtime of their own; each request is a task, and its thread waits for the answer.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::{Certificate, Client};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Target;
use crate::tasks::Tasks;

/// the longest answer that is read; a collector has little to say
const ANSWER_BYTES_MAX: usize = 65_536;

#[derive(Debug)]
pub struct Post {
    client: Client,
    runtime: Handle,
    tasks: Tasks,
}

impl Post {
    pub fn new(target: &Target, runtime: Handle, tasks: &Tasks) -> Result<Self, String> {
        let describe = |error: reqwest::Error| error.to_string();
        let mut client = Client::builder()
            .timeout(target.timeout)
            .connect_timeout(target.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(authorities) = &target.authorities {
            client = client.tls_certs_only(Certificate::from_pem_bundle(authorities).map_err(describe)?);
        }
        Ok(Post { client: client.build().map_err(describe)?, runtime, tasks: tasks.clone() })
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (answer, answered) = oneshot::channel();
        let exchange = exchange(self.client.clone(), request);
        {
            let _runtime = self.runtime.enter();
            // Who asked may have given up; then the answer is nobody's.
            self.tasks.spawn("telemetry export", async move { drop(answer.send(exchange.await)) });
        }
        answered.await?
    }
}

async fn exchange(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
