//! Enums with a name in output for each variant.

/// Declares an enum with a name for each variant: `ALL` of them and their `NAMES`, the `name` of one, and the one `named` so.
macro_rules! named {
    ($(#[$about:meta])* $vis:vis enum $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $type { $($(#[$doc])* $variant,)* }

        #[allow(dead_code, reason = "not every enum is read by its names")]
        impl $type {
            /// Every one, in the order declared.
            $vis const ALL: &[Self] = &[$(Self::$variant),*];

            /// Their names in output.
            $vis const NAMES: &[&str] = &[$($name),*];

            /// The name in output.
            $vis fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one of this name.
            $vis fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}
pub(crate) use named;
