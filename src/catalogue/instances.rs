//! Cloud instances and systems by name: how many of which device they have.

use serde::Deserialize;

use super::letters_and_digits;

const INSTANCES: &str = include_str!("instances.jsonl");

/// A cloud instance, or a system that is sold whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its name, as its provider writes it.
    pub name: String,
    /// Its devices, by a name of theirs.
    pub gpu: String,
    /// How many.
    pub count: u64,
    /// Where it was read.
    pub source: String,
}

/// The instance of that name, in any case and however it is joined; of Azure's without `Standard_`, too.
pub fn instance(name: &str) -> Option<Instance> {
    let wanted = letters_and_digits(name);
    let is_meant = |instance: &Instance| {
        let own = letters_and_digits(&instance.name);
        own == wanted || own.strip_prefix("standard").is_some_and(|own| own == wanted)
    };
    // A test holds that every line is an instance.
    INSTANCES.lines().filter_map(|line| serde_json::from_str(line).ok()).find(is_meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::accelerator;

    #[test]
    fn every_line_is_an_instance_of_known_devices_with_a_name_of_its_own() {
        let mut names = Vec::new();
        for line in INSTANCES.lines() {
            let found: Instance = serde_json::from_str(line).unwrap();
            assert!(accelerator(&found.gpu, &[]).is_ok(), "{line}");
            assert!(found.count > 0 && !found.source.is_empty(), "{line}");
            assert!(accelerator(&found.name, &[]).is_err() || found.source.contains("GKE"), "{line}");
            let name = letters_and_digits(&found.name);
            assert!(!names.contains(&name), "{name}");
            names.push(name);
            assert_eq!(instance(&found.name.to_uppercase()).as_ref(), Some(&found));
        }
        assert_eq!(instance("nd96isr_h100_v5").map(|found| found.count), Some(8));
        assert_eq!(instance("p5"), None);
    }
}
