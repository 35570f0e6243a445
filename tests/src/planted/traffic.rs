//! HTTP/1.1 as it passed a tapped balancer.

/// A request with its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Method and path; random names in the path are `*`.
    pub route: String,
    /// The whole request.
    pub request: Message,
    /// The whole answer, if one came.
    pub answer: Option<Message>,
    /// Its status.
    pub status: u16,
}

/// One half of an exchange.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// First line.
    pub first: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, chunks put together.
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// Everything of it that can be searched.
    pub fn bytes(&self) -> Vec<u8> {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        [self.first.as_bytes(), b"\n", headers.as_bytes(), &self.body].concat()
    }

    /// The first message of a stream, and what comes after it; `None` if it was cut short.
    fn read(stream: &[u8], has_body: impl Fn(&Self) -> bool) -> Option<(Self, &[u8])> {
        let end = stream.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&stream[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next()?.to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let (mut message, rest) = (Self { first, headers, body: Vec::new() }, &stream[end + 4..]);
        if !has_body(&message) {
            return Some((message, rest));
        }
        if message.header("transfer-encoding") == Some("chunked") {
            let (body, rest) = chunks(rest)?;
            message.body = body;
            return Some((message, rest));
        }
        let length: usize = message.header("content-length").map_or(0, |length| length.parse().unwrap());
        message.body = rest.get(..length)?.to_vec();
        Some((message, &rest[length..]))
    }
}

fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 4 + length..)?;
        if length == 0 {
            return Some((body, rest));
        }
    }
}

/// Everything that passed, in order of connections.
pub fn exchanges(passed: &[[Vec<u8>; 2]]) -> Vec<Exchange> {
    let mut all = Vec::new();
    for [asked, answered] in passed {
        let (mut asked, mut answered) = (asked.as_slice(), answered.as_slice());
        while let Some((request, rest)) = Message::read(asked, |_| true) {
            asked = rest;
            let answer = Message::read(answered, |answer| !matches!(status(answer), 100..200 | 204 | 304));
            let answer = answer.map(|(answer, rest)| {
                answered = rest;
                answer
            });
            let status = answer.as_ref().map_or(0, status);
            all.push(Exchange { route: route(&request.first), request, answer, status });
        }
        assert!(asked.is_empty(), "not HTTP/1.1, or cut short: {}", String::from_utf8_lossy(asked));
    }
    all
}

fn status(answer: &Message) -> u16 {
    answer.first.split(' ').nth(1).unwrap().parse().unwrap()
}

fn route(first: &str) -> String {
    let mut parts = first.split(' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    let path = path.split('?').next().unwrap();
    let name =
        |part: &str| if part.len() > 40 || part.parse::<u32>().is_ok() { "*".to_owned() } else { part.to_owned() };
    format!("{method} {}", path.split('/').map(name).collect::<Vec<_>>().join("/"))
}
