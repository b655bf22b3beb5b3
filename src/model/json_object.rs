//! Structs that are JSON objects, written and read.

/// Declares a struct as a JSON object, written and read by the same keys: what is unknown, off or empty is absent, and an
/// unknown key is an error.
macro_rules! json_object {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$note:meta])* pub $field:ident: $type:ty,)* }) => {
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
        #[serde(default, deny_unknown_fields)]
        $(#[$about])*
        pub struct $name {
            $(
                #[serde(skip_serializing_if = "crate::model::json_object::is_default")]
                $(#[$note])*
                pub $field: $type,
            )*
        }
    };
}

pub(super) use json_object;

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
