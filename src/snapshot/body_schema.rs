//! The schema of a served route's body.

/// Default for the largest body in bytes. The largest documented body has a few hundred bytes, and a body is held in
/// memory whole.
pub const DEFAULT_MAX_BODY: usize = 16 * 1024;

/// A JSON object of these fields and no others. If there are no fields, an empty body counts as `{}`.
#[derive(Debug, Clone)]
pub struct BodySchema {
    /// Largest body in bytes ([`DEFAULT_MAX_BODY`]); more is 413.
    pub max: usize,
    /// The fields, in the order in which their errors are reported.
    pub fields: Vec<FieldSpec>,
    /// The message for an unknown field; default `The {field} field is not known.`
    pub unknown: Option<String>,
    /// How a body that cannot be read is treated.
    pub unreadable: UnreadableBody,
    /// What becomes of members that are not among the fields.
    pub unknown_fields: UnknownFields,
    /// Whether it may be a form.
    pub forms: Forms,
}

/// What becomes of members that are not among the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownFields {
    #[default]
    Refused,
    Ignored,
    /// They are told with what they stand in.
    Kept,
}

/// Whether a body may be `application/x-www-form-urlencoded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forms {
    #[default]
    Refused,
    Taken,
}

/// What a body is that is not one JSON object, or is said to be of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnreadableBody {
    /// Refused as such: [`Denial::InvalidBody`](crate::base::denial::Denial::InvalidBody) or
    /// [`Denial::WrongMediaType`](crate::base::denial::Denial::WrongMediaType).
    #[default]
    Refused,
    /// An object without members: the fields that must be there are told to be missing.
    Empty,
}

impl Default for BodySchema {
    fn default() -> Self {
        Self {
            max: DEFAULT_MAX_BODY,
            fields: Vec::new(),
            unknown: None,
            unreadable: UnreadableBody::default(),
            unknown_fields: UnknownFields::default(),
            forms: Forms::default(),
        }
    }
}

/// One field of a body.
#[derive(Debug, Clone)]
pub struct FieldSpec {
    /// Its name in the JSON object; of a member of an object, the path to it with dots. An object stands before
    /// its members.
    pub name: String,
    pub kind: FieldKind,
    /// Whether it may be missing (or `null`, or an empty text).
    pub presence: FieldPresence,
    /// The only values admitted, of the text or of each item; empty: any.
    pub one_of: Vec<String>,
    /// What its errors say, where not the default.
    pub messages: FieldMessages,
}

/// Whether a field may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldPresence {
    Required,
    /// It may be left out.
    Optional,
}

/// What a field holds. Lengths are in characters. Texts never hold control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    Text {
        min: usize,
        max: usize,
        format: TextFormat,
    },
    /// A text that is a secret (password, key, secret half): of any characters, since it is only ever
    /// hashed or compared, and never in answers, logs or messages.
    Secret {
        min: usize,
        max: usize,
    },
    Integer {
        min: i64,
        max: i64,
    },
    /// A number, whole or not.
    Number {
        min: i64,
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// An object, whose members are fields of their own.
    Object,
    Any {
        /// Most bytes, written without spaces.
        max: usize,
        /// How many objects and lists may stand in one another.
        depth: usize,
    },
    /// A list of texts, without repetition.
    TextList {
        max_items: usize,
        max: usize,
    },
}

/// The form of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    Any,
    Email,
    /// `[A-Za-z0-9._:-]{1,128}`
    Id,
}

/// What a field's errors say. `{field}` is the field's name with spaces for `_`; `{min}`, `{max}` and
/// `{values}` are those of its rule. `None`: the default beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldMessages {
    /// `The {field} field is required.`
    pub required: Option<String>,
    /// Of the wrong JSON type: `The {field} field must be a string.` (`an integer`, `a list of strings`)
    pub kind: Option<String>,
    /// Of the wrong form: `The {field} field is not valid.` (an e-mail address: `The {field} field must be a valid email address.`)
    pub format: Option<String>,
    /// Too short or too small: `The {field} field must be at least {min} characters.` (integers: `at least {min}.`)
    pub min: Option<String>,
    /// Too long, too large or too many: `The {field} field must not be greater than {max} characters.`
    /// (integers: `greater than {max}.`; lists: `have more than {max} items.`)
    pub max: Option<String>,
    /// Not one of the values: `The selected {field} is invalid.`
    pub one_of: Option<String>,
}
