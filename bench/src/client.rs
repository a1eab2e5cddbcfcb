//! A WebSocket client for measurements: small buffers, no delay, its own headers.

use futures_util::{SinkExt, StreamExt};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub type Socket = WebSocketStream<TcpStream>;

/// tungstenite zero-fills its buffer before every read: the default of 128 KiB would measure that
pub const BUFFER_BYTES: usize = 4096;
/// the origin that every policy of the measurements allows
pub const HOME: &str = "https://app.example.com";
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// where to connect, and as whom
#[derive(Clone, Debug)]
pub struct Door {
    pub address: SocketAddr,
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// what the kernel may keep of what is sent [default: the kernel's choice, megabytes]
    pub send_buffer: Option<u32>,
    /// the client's own address [default: the kernel's choice]
    pub from: Option<IpAddr>,
}

/// why there is no socket
#[derive(Debug)]
pub enum NotOpened {
    Refused {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    Failed(Error),
    TooSlow,
    /// it got in, and was not let in any further
    Unwelcome(String),
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotOpened::Refused { status, .. } => write!(f, "refused with {status}"),
            NotOpened::Failed(error) => write!(f, "failed: {error}"),
            NotOpened::TooSlow => write!(f, "no answer within {OPENS_WITHIN:?}"),
            NotOpened::Unwelcome(why) => write!(f, "not let in: {why}"),
        }
    }
}

impl std::error::Error for NotOpened {}

pub fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES)
}

impl Door {
    /// with the origin of home
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Door { address, path: path.to_owned(), headers: Vec::new(), send_buffer: None, from: None }
            .header("origin", HOME)
    }

    /// what is no header is left out; replaces a header of the same name
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.retain(|(set, _)| *set != name);
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// as a load balancer on loopback would forward it
    pub fn forwarded_for(self, address: &str) -> Self {
        self.header("x-forwarded-for", address)
    }

    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    pub async fn open(&self) -> Result<Socket, NotOpened> {
        timeout(OPENS_WITHIN, self.open_patiently()).await.map_err(|_| NotOpened::TooSlow)?
    }

    async fn open_patiently(&self) -> Result<Socket, NotOpened> {
        let failed = |error: std::io::Error| NotOpened::Failed(Error::Io(error));
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes).map_err(failed)?;
        }
        if let Some(address) = self.from {
            socket.bind(SocketAddr::new(address, 0)).map_err(failed)?;
        }
        let stream = socket.connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let url = format!("ws://{}{}", self.address, self.path);
        let mut request = url.into_client_request().map_err(NotOpened::Failed)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        match client_async_with_config(request, stream, Some(config())).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                Err(NotOpened::Refused { status: response.status(), retry_after: seconds.map(Duration::from_secs) })
            }
            Err(error) => Err(NotOpened::Failed(error)),
        }
    }
}

/// closes as a client does, and reads until the other side has ended the connection
pub async fn close(mut socket: Socket) -> Result<(), Error> {
    socket.close(None).await?;
    while let Some(message) = socket.next().await {
        if let Err(Error::ConnectionClosed) = message {
            break;
        }
        message?;
    }
    Ok(())
}

/// sends it and waits for the next text
pub async fn ask(socket: &mut Socket, text: Message) -> Result<Option<Message>, Error> {
    socket.send(text).await?;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return Ok(Some(message)),
        }
    }
    Ok(None)
}
