//! Rights on a broker, taken away and given back.
//!
//! Owns: two requests of Kafka's protocol, written by hand: the client that the tests read and write with knows no rights.
//! Whoever has no rule against it may do everything on the test brokers.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::kafka::{Broker, TIMEOUT};

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
/// Of both requests: the last one in which a text's length has two bytes.
const VERSION: i16 = 1;

const TOPIC: i8 = 2;
const TRANSACTIONAL_ID: i8 = 5;
/// The name itself, or all names that begin with it.
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
/// Of operations and permissions, in a question.
const ANY: i8 = 1;
const ALL: i8 = 2;
const WRITE: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
/// Larger answers are a mistake.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a right is about.
#[derive(Clone, Debug)]
pub struct Resource {
    kind: i8,
    pub name: String,
    pattern: i8,
}

impl Resource {
    pub fn topic(name: &str) -> Self {
        Self { kind: TOPIC, name: name.to_owned(), pattern: LITERAL }
    }

    pub fn transactional_ids(prefix: &str) -> Self {
        Self { kind: TRANSACTIONAL_ID, name: prefix.to_owned(), pattern: PREFIXED }
    }
}

impl Broker {
    /// From here on nobody writes there; everything else stays allowed.
    pub fn deny_writes(&self, resource: &Resource) {
        // With a rule on it, a resource is closed to all that no rule allows.
        for (operation, permission) in [(ALL, ALLOW), (WRITE, DENY)] {
            let mut body = Message::with_count();
            body.resource(resource);
            body.text("User:*");
            body.text("*");
            body.bytes([operation, permission]);
            self.ask(CREATE_ACLS, &body);
        }
    }

    /// Takes back what `deny_writes` did.
    pub fn allow_writes(&self, resource: &Resource) {
        let mut body = Message::with_count();
        body.resource(resource);
        body.no_text();
        body.no_text();
        body.bytes([ANY, ANY]);
        self.ask(DELETE_ACLS, &body);
    }

    /// Any broker passes it on to the one that decides.
    fn ask(&self, key: i16, body: &Message) {
        let mut addresses = self.bootstrap.split(',');
        let mut stream = addresses.find_map(|address| TcpStream::connect(address).ok()).expect("a broker is there");
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut message = Message::default();
        message.number(key);
        message.number(VERSION);
        // Its number, which comes back in the answer.
        message.0.extend(0_i32.to_be_bytes());
        message.text("millstream-test");
        message.0.extend(&body.0);
        stream.write_all(&i32::try_from(message.0.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&message.0).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap();
        assert!((14..=ANSWER_BYTES_MAX).contains(&length), "an answer of {length} bytes");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        // Number, throttle time, how many results; then the first one's error.
        let code = i16::from_be_bytes([answer[12], answer[13]]);
        assert_eq!(code, 0, "request {key} was answered by error {code}: {}", String::from_utf8_lossy(&answer[14..]));
    }
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A list with one element follows.
    fn with_count() -> Self {
        Self(1_i32.to_be_bytes().to_vec())
    }

    fn number(&mut self, number: i16) {
        self.0.extend(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(i16::try_from(text.len()).unwrap());
        self.0.extend(text.as_bytes());
    }

    fn no_text(&mut self) {
        self.number(-1);
    }

    fn bytes<const N: usize>(&mut self, bytes: [i8; N]) {
        self.0.extend(bytes.map(|byte| byte.to_be_bytes()[0]));
    }

    fn resource(&mut self, resource: &Resource) {
        self.bytes([resource.kind]);
        self.text(&resource.name);
        self.bytes([resource.pattern]);
    }
}
