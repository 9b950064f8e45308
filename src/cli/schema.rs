//! `durward schema`: the JSON Schema of a configuration file, as it is published under `schemas/`.

use clap::ValueEnum;

use crate::config::json_schema;

use super::failure::Failure;
use super::output::Printer;

/// Files that have a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaFile {
    /// `gateway.toml`
    Gateway,
    /// A file of the `upstreams` directory.
    Upstream,
}

pub(super) fn run(file: SchemaFile, printer: &Printer) -> Result<(), Failure> {
    let schema = match file {
        SchemaFile::Gateway => json_schema::gateway(),
        SchemaFile::Upstream => json_schema::upstream(),
    };
    printer.print(&schema, |out| writeln!(out, "{schema:#}"))
}
