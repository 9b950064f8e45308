//! `durward new-store`: permits the next start to begin with an empty store.

use std::path::Path;

use serde::Serialize;

use super::failure::{Exit, Failure};
use super::output::{Printer, style};
use crate::config::{self, Purpose};
use crate::snapshot::StoreKind;
use crate::store::embedded::first_start::{self, StoreFileState};

#[derive(Serialize)]
struct Permitted {
    store: String,
}

pub(crate) fn run(config: &Path, printer: &Printer) -> Result<(), Failure> {
    let loaded = config::load(config, Purpose::Check).map_err(|errors| printer.mistakes(config, &errors.problems, style()))?;
    let StoreKind::Embedded { path } = &loaded.settings.store.kind else {
        let why = "a Redis store is begun by the first tenant that is made in it; nothing was changed";
        return Err(Failure::new(Exit::Usage, why));
    };
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    if first_start::inspect(path).map_err(failed)? == StoreFileState::Store {
        let why = format!("the store {} is there: move it away first; nothing was changed", path.display());
        return Err(Failure::new(Exit::Failed, why));
    }
    first_start::create_marker(&first_start::permission_marker(path)).map_err(failed)?;
    let permitted = Permitted {
        store: path.display().to_string(),
    };
    printer.print(&permitted, |out| {
        writeln!(out, "the next `durward serve` begins an empty store at {}", permitted.store)
    })
}
