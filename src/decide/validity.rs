//! Whether facts may be used, and whether what they say admits the credential now.
