//! What can be wrong with a trail, in words for people and for programs.

use serde::Serialize;

use crate::audit::checkpoint::InvalidCheckpoint;

/// Something that cannot be in a trail that nobody touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    #[error("a line here is not an entry")]
    NotAnEntry,
    #[error("entries {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
    #[error("entry {seq} stands where entry {expected} belongs")]
    OutOfPlace { seq: u64, expected: u64 },
    #[error("it is an entry of the gateway `{0}`")]
    OtherGateway(String),
    #[error("its time is not a time")]
    WrongTime,
    #[error("the entry is not the one that was signed")]
    EntryChanged,
    #[error("its leaf is not the one that was signed; the entry itself is")]
    LeafChanged,
    #[error("entry and leaf differ, and no checkpoint covers them")]
    LeafDiffers,
    #[error("entries {from} to {to} are not those that {signed} was made of")]
    NotAsSigned { from: u64, to: u64, signed: String },
    #[error("the subtree of entries {from} to {to} is not the one that was signed; the entries themselves are")]
    NodeChanged { from: u64, to: u64 },
    #[error("the file is missing")]
    FileMissing,
    #[error("the compressed segment and the plain one beside it differ")]
    Differs,
    #[error("the file is longer than its segment")]
    TooLong,
    #[error("the file is shorter than its segment")]
    TooShort,
    #[error("a checkpoint of it does not hold: {0}")]
    WrongCheckpoint(#[from] InvalidCheckpoint),
    #[error("a checkpoint of {size} entries does not belong here")]
    CheckpointOutOfPlace { size: u64 },
    #[error("it ends within a checkpoint")]
    CheckpointTorn,
    #[error("the newest checkpoint covers {size} entries, and the segment has one of {newest}")]
    CheckpointOld { size: u64, newest: u64 },
    #[error("a line here is not a body")]
    NotABody,
    #[error("the body is not the one that was recorded")]
    BodyChanged,
    #[error("the body is missing")]
    BodyMissing,
    #[error("a body that no entry tells of")]
    BodyUnknown,
    #[error("the body was erased, and no entry tells who did it")]
    BodyErased,
}

impl Fault {
    /// The word for programs. It is a stable contract.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::NotAnEntry => "not_an_entry",
            Self::Missing { .. } => "entries_missing",
            Self::OutOfPlace { .. } => "entry_out_of_place",
            Self::OtherGateway(_) => "other_gateway",
            Self::WrongTime => "wrong_time",
            Self::EntryChanged => "entry_changed",
            Self::LeafChanged => "leaf_changed",
            Self::LeafDiffers => "leaf_differs",
            Self::NotAsSigned { .. } => "not_as_signed",
            Self::NodeChanged { .. } => "node_changed",
            Self::FileMissing => "file_missing",
            Self::Differs => "files_differ",
            Self::TooLong => "file_too_long",
            Self::TooShort => "file_too_short",
            Self::WrongCheckpoint(_) => "wrong_checkpoint",
            Self::CheckpointOutOfPlace { .. } => "checkpoint_out_of_place",
            Self::CheckpointTorn => "checkpoint_torn",
            Self::CheckpointOld { .. } => "checkpoint_old",
            Self::NotABody => "not_a_body",
            Self::BodyChanged => "body_changed",
            Self::BodyMissing => "body_missing",
            Self::BodyUnknown => "body_unknown",
            Self::BodyErased => "body_erased",
        }
    }
}

/// A fault with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The first entry that it concerns.
    pub seq: u64,
    /// The file that it is in, or where a checkpoint comes from.
    pub file: String,
    #[serde(flatten, serialize_with = "members")]
    pub fault: Fault,
}

fn members<S: serde::Serializer>(fault: &Fault, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = to.serialize_map(Some(2))?;
    map.serialize_entry("code", fault.code())?;
    map.serialize_entry("message", &fault.to_string())?;
    map.end()
}
