//! Enums with a name in output for each variant.

/// Declares an enum with a name for each variant: `ALL` of them, and `name` of one.
macro_rules! named {
    ($(#[$about:meta])* pub enum $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$doc])* $variant,)* }

        impl $type {
            /// Every one, in the order declared.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in output.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}
pub(crate) use named;
