//! Rules of queries: the filters, the order, and how little is read.
