//! An HTTP client that sends what it is told to, byte for byte.

use serde_json::Value as Json;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Long, for machines that do much else besides.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that is kept.
pub(crate) struct HttpClient<S: Read + Write>(BufReader<S>);

#[derive(Debug)]
pub(crate) struct MirrorAnswer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl MirrorAnswer {
    /// The body, which has to be JSON, with HTTP 200 as the platform has it.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(
            self.head.contains("content-type: application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// 0 where there is none, as with the platform.
    pub(crate) fn errcode(&self) -> i64 {
        self.json()["errcode"].as_i64().unwrap_or(0)
    }

    pub(crate) fn errmsg(&self) -> String {
        self.json()["errmsg"].as_str().unwrap_or("").to_owned()
    }

    pub(crate) fn token(&self) -> String {
        let json = self.json();
        let value = json["access_token"].as_str().or(json["ticket"].as_str());
        value
            .unwrap_or_else(|| panic!("no value: {self:?}"))
            .to_owned()
    }

    pub(crate) fn expires_in(&self) -> i64 {
        self.json()["expires_in"].as_i64().unwrap()
    }
}

impl HttpClient<TcpStream> {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }
}

impl HttpClient<UnixStream> {
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }
}

impl<S: Read + Write> HttpClient<S> {
    /// Sends one request and reads its answer; the connection stays.
    pub(crate) fn send(&mut self, request: &str) -> MirrorAnswer {
        self.try_send(request).unwrap()
    }

    pub(crate) fn try_send(&mut self, request: &str) -> io::Result<MirrorAnswer> {
        self.0.get_mut().write_all(request.as_bytes())?;
        self.read(request.starts_with("HEAD "))
    }

    pub(crate) fn get(&mut self, target: &str) -> MirrorAnswer {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nAccept: */*\r\n\r\n"
        ))
    }

    pub(crate) fn post(&mut self, target: &str, content_type: &str, body: &str) -> MirrorAnswer {
        let length = body.len();
        self.send(&format!(
            "POST {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Reads an answer; a HEAD has no body whatever its length says.
    pub(crate) fn read(&mut self, is_head: bool) -> io::Result<MirrorAnswer> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match &head[before..] {
                "\r\n" if head.starts_with("HTTP/1.1 100") => head.clear(),
                "\r\n" => break,
                _ => {}
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; if is_head { 0 } else { length }];
        self.0.read_exact(&mut body)?;
        Ok(MirrorAnswer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: String::from_utf8(body).unwrap(),
        })
    }
}
