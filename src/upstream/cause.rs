//! Why an attempt at an endpoint failed, as the access log names it.

use std::io;

use rustix::io::Errno;

/// What went wrong with the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its name has no address, or no resolver answered.
    Dns,
    /// Nothing listens on its port.
    ConnectRefused,
    /// No connection within `connect_timeout`, TLS included.
    ConnectTimedOut,
    /// No route leads to its network or its host.
    ConnectUnreachable,
    /// This process, or the machine, has no descriptor or no memory left for a connection.
    NoDescriptors,
    /// The handshake failed: the certificate, its name, or the versions.
    Tls,
    /// Connecting failed in another way.
    ConnectFailed,
    /// It closed the connection before a byte of the answer.
    Closed,
    /// It reset the connection before the answer was whole.
    Reset,
    /// It gave no answer within `response_timeout`, or no byte moved for too long.
    AnswerTimedOut,
    /// What it sent is not an HTTP response.
    AnswerMalformed,
    /// The connection ended within the answer.
    AnswerCutShort,
    /// The answer is over `response_head` or `response_fields`, or too many interim answers came before it.
    AnswerTooLarge,
    /// No connection to it became free in time.
    NoFreeConnection,
}

impl Cause {
    /// The word in access lines and in the log line of an ejection.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns_failed",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::NoDescriptors => "no_descriptors",
            Self::Tls => "tls_failed",
            Self::ConnectFailed => "connect_failed",
            Self::Closed => "closed_before_answer",
            Self::Reset => "reset",
            Self::AnswerTimedOut => "answer_timed_out",
            Self::AnswerMalformed => "answer_malformed",
            Self::AnswerCutShort => "answer_cut_short",
            Self::AnswerTooLarge => "answer_too_large",
            Self::NoFreeConnection => "no_free_connection",
        }
    }

    /// The cause for the error of an attempt to connect.
    #[must_use]
    pub(super) fn of_connect(error: &io::Error) -> Self {
        if is_out_of_resources(error) {
            return Self::NoDescriptors;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::TimedOut => Self::ConnectTimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::ConnectUnreachable,
            io::ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::ConnectFailed,
        }
    }
}

fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reasons_have_words_of_their_own() {
        for (code, cause) in [
            (111, Cause::ConnectRefused),
            (110, Cause::ConnectTimedOut),
            (113, Cause::ConnectUnreachable),
            (101, Cause::ConnectUnreachable),
            (104, Cause::Reset),
            (24, Cause::NoDescriptors),
            (99, Cause::ConnectFailed),
        ] {
            assert_eq!(Cause::of_connect(&io::Error::from_raw_os_error(code)), cause, "{code}");
        }
    }
}
