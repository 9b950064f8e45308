//! Host and authority: validated, lower case, split from the port.
