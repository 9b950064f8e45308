//! Who is admitted to which route, and what proof is asked for.
