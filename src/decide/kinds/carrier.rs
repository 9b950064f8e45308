//! Where a request carries a credential.

/// A header or cookie that carries a whole credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// `Authorization` with this scheme.
    Authorization(AuthScheme),
    /// A header of this lower-case name.
    Header(String),
    /// A cookie of this name.
    Cookie(String),
}

/// An authentication scheme (RFC 9110, section 11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthScheme {
    /// `Bearer` (RFC 6750).
    Bearer,
    /// `Basic` (RFC 7617).
    Basic,
}

impl AuthScheme {
    const ALL: [Self; 2] = [Self::Bearer, Self::Basic];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Basic => "Basic",
        }
    }

    /// The scheme at the beginning of a value of `Authorization`, in upper or lower case, and the rest after its
    /// name; `None` if it is none of these.
    #[must_use]
    pub fn split(value: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL.into_iter().find_map(|scheme| {
            let (word, rest) = value.split_at_checked(scheme.as_str().len())?;
            // `Bearerx` is another scheme.
            let ends = matches!(rest, [] | [b' ' | b'\t' | b',' | b'=', ..]);
            (ends && word.eq_ignore_ascii_case(scheme.as_str().as_bytes())).then_some((scheme, rest))
        })
    }
}

/// A header that can carry a credential.
#[derive(Debug, Clone, Copy)]
pub enum HeaderLocation<'n> {
    /// `Authorization`, behind this scheme.
    Authorization(AuthScheme),
    Header(&'n [u8]),
}

impl Carrier {
    /// `Authorization: Bearer …`
    pub const BEARER: Self = Self::Authorization(AuthScheme::Bearer);

    /// The header; `None` for cookies.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Authorization(_) => Some("authorization"),
            Self::Header(name) => Some(name),
            Self::Cookie(_) => None,
        }
    }

    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        match self {
            Self::Cookie(name) => Some(name),
            Self::Authorization(_) | Self::Header(_) => None,
        }
    }

    /// Whether a text in this header is in this carrier.
    #[must_use]
    pub fn is_at(&self, place: HeaderLocation<'_>) -> bool {
        match (self, place) {
            (Self::Authorization(own), HeaderLocation::Authorization(scheme)) => *own == scheme,
            (Self::Header(own), HeaderLocation::Header(name)) => name.eq_ignore_ascii_case(own.as_bytes()),
            (Self::Authorization(_), HeaderLocation::Header(_))
            | (Self::Header(_), HeaderLocation::Authorization(_))
            | (Self::Cookie(_), _) => false,
        }
    }

    /// The header field that carries this text, as a client sends it; `None` for cookies.
    #[must_use]
    pub fn field(&self, text: &str) -> Option<(String, String)> {
        match self {
            Self::Authorization(scheme) => Some(("authorization".to_owned(), format!("{} {text}", scheme.as_str()))),
            Self::Header(name) => Some((name.clone(), text.to_owned())),
            Self::Cookie(_) => None,
        }
    }
}

/// Where the credentials of a surface are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry<'s> {
    /// Whole, in one of these carriers.
    Whole(&'s [Carrier]),
    /// In two headers of these lower-case names.
    Halves { key: &'s str, secret: &'s str },
    /// In two fields of a body, on served routes only.
    BodyHalves { key: &'s BodyField, secret: &'s BodyField },
    /// A log-in in a body, on served routes only.
    Login(&'s AccountFields),
    /// Nowhere: the credential is never presented.
    Never,
}

impl<'s> Carry<'s> {
    /// The carriers of whole credentials.
    #[must_use]
    pub const fn carriers(self) -> &'s [Carrier] {
        match self {
            Self::Whole(carriers) => carriers,
            Self::Halves { .. } | Self::BodyHalves { .. } | Self::Login(_) | Self::Never => &[],
        }
    }

    /// The two headers that carry the halves: the publishable and the secret one.
    #[must_use]
    pub const fn half_headers(self) -> Option<[&'s str; 2]> {
        match self {
            Self::Halves { key, secret } => Some([key, secret]),
            Self::Whole(_) | Self::BodyHalves { .. } | Self::Login(_) | Self::Never => None,
        }
    }

    /// Every header that carries the credential, whole or one half.
    pub fn headers(self) -> impl Iterator<Item = &'s str> {
        let halves = self.half_headers().into_iter().flatten();
        self.carriers().iter().filter_map(Carrier::header).chain(halves)
    }

    /// Whether a header of this name carries the credential, whole or one half. It is asked for every surface and
    /// every field.
    #[must_use]
    pub fn uses_header(self, name: &[u8]) -> bool {
        match self {
            Self::Whole(carriers) => carriers.iter().any(|carrier| match carrier {
                Carrier::Authorization(_) => name.eq_ignore_ascii_case(b"authorization"),
                Carrier::Header(own) => name.eq_ignore_ascii_case(own.as_bytes()),
                Carrier::Cookie(_) => false,
            }),
            Self::Halves { key, secret } => name.eq_ignore_ascii_case(key.as_bytes()) || name.eq_ignore_ascii_case(secret.as_bytes()),
            Self::BodyHalves { .. } | Self::Login(_) | Self::Never => false,
        }
    }

    /// Whether a text in this header may be the credential, or a half of it.
    #[must_use]
    pub fn is_at(self, place: HeaderLocation<'_>) -> bool {
        match (self, place) {
            (Self::Whole(carriers), place) => carriers.iter().any(|carrier| carrier.is_at(place)),
            (Self::Halves { .. }, HeaderLocation::Header(name)) => self.uses_header(name),
            (Self::Halves { .. }, HeaderLocation::Authorization(_)) | (Self::BodyHalves { .. } | Self::Login(_) | Self::Never, _) => false,
        }
    }

    /// Whether the credentials of both may stand in the same header.
    #[must_use]
    pub fn meets(self, other: Carry<'_>) -> bool {
        let whole = self.carriers().iter().any(|carrier| match carrier {
            Carrier::Authorization(scheme) => other.is_at(HeaderLocation::Authorization(*scheme)),
            Carrier::Header(name) => other.is_at(HeaderLocation::Header(name.as_bytes())),
            Carrier::Cookie(_) => false,
        });
        let halves = self.half_headers().into_iter().flatten();
        whole || halves.into_iter().any(|name| other.is_at(HeaderLocation::Header(name.as_bytes())))
    }

    /// Whether the credential is presented in a body, so that only served routes can accept it.
    #[must_use]
    pub const fn is_in_body(self) -> bool {
        match self {
            Self::BodyHalves { .. } | Self::Login(_) | Self::Never => true,
            Self::Whole(_) | Self::Halves { .. } => false,
        }
    }
}

/// A field of a JSON body that holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyField {
    pub name: String,
    /// Longest text in characters; a longer one is a validation error.
    pub max: usize,
}

/// How an account is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFields {
    /// The field with the login.
    pub login: BodyField,
    /// The field with the password.
    pub password: BodyField,
}
