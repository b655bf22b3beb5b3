//! Where what is named is looked up.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{Ask, Named};
use crate::catalogue::{AcceleratorEntry, PriceEntry};
use crate::model::Model;
use crate::units::Error;

/// What is known of models, accelerators and prices, beside what is embedded.
pub trait Sources {
    /// The model of a name or an object.
    ///
    /// # Errors
    /// What is wrong with it; of an object under `key`.
    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error>;

    /// The model that `derive` makes of what was said; sources that are asked the same again and again keep it.
    ///
    /// # Errors
    /// What `derive` says.
    fn derived(&self, _ask: &Ask, derive: &dyn Fn() -> Result<Model, Error>) -> Result<Arc<Model>, Error> {
        derive().map(Arc::new)
    }

    /// Whether a name is that of a file or a directory.
    fn is_path(&self, name: &str) -> bool;

    /// The user's own accelerators: of a file, or of none.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn accelerators(&self, _file: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
        Ok(Vec::new())
    }

    /// The user's own prices.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn prices(&self, file: &Path) -> Result<Vec<PriceEntry>, Error>;

    /// The cards of this machine.
    ///
    /// # Errors
    /// Why they cannot be listed.
    fn cards(&self) -> Result<Vec<Card>, String> {
        Err("cannot be listed here".into())
    }
}

/// Whether a model comes with its weights, where they are known: the headers of its files are read for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Weigh {
    /// Weights that cannot be read are a warning of the model.
    Yes,
    /// The same, with its tensors in a GGUF file.
    Gguf,
    /// [`Model::weights`] stays `None`.
    #[default]
    No,
}

impl Weigh {
    /// With weights where `condition` holds.
    pub fn when(condition: bool) -> Self {
        if condition { Self::Yes } else { Self::No }
    }
}

/// A card of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// As its driver names it.
    pub name: String,
    /// Its memory, where the driver reports it.
    pub memory_mib: Option<u64>,
}

impl fmt::Display for Card {
    /// `NVIDIA L4 (23034 MiB)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.memory_mib.map_or(Ok(()), |mib| write!(f, " ({mib} MiB)"))
    }
}
