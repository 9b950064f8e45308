//! The operator's side: the command line's contract, the private socket, probes, the demo.

mod cli;
mod demo;
mod operator;
mod people;
