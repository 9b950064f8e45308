//! The operator's side: the command line's contract, the private socket, probes, receipts and drills, the demo.

mod cli;
mod demo;
mod descriptors;
mod disk;
mod drill;
mod operator;
mod people;
mod receipts;
mod registrations;
mod replicas;
mod rights;
mod secrets;
mod sessions;
mod words;
