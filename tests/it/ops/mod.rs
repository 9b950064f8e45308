//! The operator's side: the command line's contract, the private socket, probes, receipts, the demo.

mod cli;
mod demo;
mod operator;
mod people;
mod receipts;
