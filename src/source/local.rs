//! What is known without a network: the catalogue and local files.

use std::path::Path;
use std::sync::Arc;

use super::Resolver;
use crate::catalogue::{AcceleratorEntry, PriceEntry};
use crate::model::Model;
use crate::request::{Named, Sources, Weigh};
use crate::units::Error;

/// The embedded catalogue and local files; no network, no environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalSources;

impl Sources for LocalSources {
    fn model(&self, named: &Named, key: &str, weigh: Weigh) -> Result<Arc<Model>, Error> {
        let resolver = Resolver::default().weights(weigh);
        let model = match named {
            Named::Object(text) => resolver.model_of_json(text.as_ref(), key),
            Named::Name(name) => resolver.model(name),
        };
        model.map(Arc::new)
    }

    fn is_path(&self, name: &str) -> bool {
        Path::new(name).exists()
    }

    fn accelerators(&self, file: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
        file.map_or_else(|| Ok(Vec::new()), super::accelerators)
    }

    fn prices(&self, file: &Path) -> Result<Vec<PriceEntry>, Error> {
        super::prices(file)
    }
}
