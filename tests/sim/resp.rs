//! RESP2 as a server sees it: commands in, replies out.

/// One command: its words.
pub(crate) type Command = Vec<Vec<u8>>;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    NilList,
    Int(i64),
    Status(&'static str),
    Bulk(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bulk(bytes.as_ref().to_vec())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"$-1\r\n"),
            Self::NilList => out.extend_from_slice(b"*-1\r\n"),
            Self::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Status(word) => out.extend_from_slice(format!("+{word}\r\n").as_bytes()),
            Self::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Self::Bulk(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::List(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.write(out));
            }
        }
    }
}

/// Takes the first whole command off the bytes.
pub(crate) fn take_command(bytes: &mut Vec<u8>) -> Option<Command> {
    let mut at = 0;
    let words = number(bytes, &mut at, b'*')?;
    let mut command = Vec::with_capacity(words);
    for _ in 0..words {
        let length = number(bytes, &mut at, b'$')?;
        command.push(bytes.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    if at > bytes.len() {
        return None;
    }
    bytes.drain(..at);
    Some(command)
}

fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?;
    let end = rest.iter().position(|b| *b == b'\r')?;
    assert_eq!(rest[0], kind, "a client sends arrays of strings");
    let value = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
    *at += end + 2;
    Some(value)
}
