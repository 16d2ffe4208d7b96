//! Declarations of wire types. A struct, an enum or a union is written down as the RFC writes it; the macros
//! give it `Pack`, `Unpack` and (in tests) `Arbitrary`, so that no type has codec code of its own.

/// `struct`: fields in wire order.
macro_rules! xdr_struct {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty),* $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

        impl $crate::xdr::Pack<$crate::xdr::Writer> for $name {
            #[allow(unused_variables, unused_mut)]
            fn pack(&self, out: &mut $crate::xdr::Writer) -> $crate::xdr::Result<usize> {
                let mut size = 0;
                $(size += $crate::xdr::Pack::pack(&self.$field, out)?;)*
                Ok(size)
            }
        }

        impl $crate::xdr::Unpack<$crate::xdr::Reader> for $name {
            #[allow(unused_variables, unused_mut)]
            fn unpack(input: &mut $crate::xdr::Reader) -> $crate::xdr::Result<(Self, usize)> {
                let mut size = 0;
                $(let $field = {
                    let (value, used) = <$ty as $crate::xdr::Unpack<$crate::xdr::Reader>>::unpack(input)?;
                    size += used;
                    value
                };)*
                Ok((Self { $($field),* }, size))
            }
        }
    )+};
}

/// `enum`: named values, and `Unknown` for whatever else arrives.
macro_rules! xdr_enum {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal),* $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
            /// A value that this crate has no name for.
            Unknown(u32),
        }

        impl From<u32> for $name {
            fn from(value: u32) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> u32 {
                match value {
                    $($name::$variant => $value,)*
                    $name::Unknown(other) => other,
                }
            }
        }

        impl $crate::xdr::Pack<$crate::xdr::Writer> for $name {
            fn pack(&self, out: &mut $crate::xdr::Writer) -> $crate::xdr::Result<usize> {
                u32::from(*self).pack(out)
            }
        }

        impl $crate::xdr::Unpack<$crate::xdr::Reader> for $name {
            fn unpack(input: &mut $crate::xdr::Reader) -> $crate::xdr::Result<(Self, usize)> {
                let (value, used) = <u32 as $crate::xdr::Unpack<_>>::unpack(input)?;
                Ok((value.into(), used))
            }
        }

        #[cfg(test)]
        impl<'a> arbitrary::Arbitrary<'a> for $name {
            fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
                // Mostly values with a name, sometimes any number.
                const NAMED: &[u32] = &[$($value),*];
                if u.ratio(3, 4)? { Ok((*u.choose(NAMED)?).into()) } else { Ok(u.arbitrary::<u32>()?.into()) }
            }
        }
    )+};
}

/// `union switch`: a discriminant and what it brings; a discriminant that is not listed does not decode.
macro_rules! xdr_union {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $disc:literal => $variant:ident $(($ty:ty))?),* $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub enum $name { $($(#[$vmeta])* $variant $(($ty))?),* }

        impl $crate::xdr::Pack<$crate::xdr::Writer> for $name {
            fn pack(&self, out: &mut $crate::xdr::Writer) -> $crate::xdr::Result<usize> {
                match self {
                    $(xdr_union!(@pattern $name $variant value $(($ty))?) => {
                        let size = u32::pack(&$disc, out)?;
                        Ok(size $(+ <$ty as $crate::xdr::Pack<_>>::pack(value, out)?)?)
                    })*
                }
            }
        }

        impl $crate::xdr::Unpack<$crate::xdr::Reader> for $name {
            fn unpack(input: &mut $crate::xdr::Reader) -> $crate::xdr::Result<(Self, usize)> {
                let (disc, size) = <u32 as $crate::xdr::Unpack<_>>::unpack(input)?;
                match disc {
                    $($disc => xdr_union!(@unpack input size $variant $(($ty))?),)*
                    other => Err($crate::xdr::Error::invalidcase(other as i32)),
                }
            }
        }
    )+};
    (@pattern $name:ident $variant:ident $value:ident ($ty:ty)) => { $name::$variant($value) };
    (@pattern $name:ident $variant:ident $value:ident) => { $name::$variant };
    (@unpack $input:ident $size:ident $variant:ident ($ty:ty)) => {{
        let (value, used) = <$ty as $crate::xdr::Unpack<_>>::unpack($input)?;
        Ok((Self::$variant(value), $size + used))
    }};
    (@unpack $input:ident $size:ident $variant:ident) => { Ok((Self::$variant, $size)) };
}

/// `opaque[N]`: bytes of fixed length.
macro_rules! xdr_fixed {
    ($($(#[$meta:meta])* pub struct $name:ident([u8; $len:literal]);)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub struct $name(pub [u8; $len]);

        impl Default for $name {
            fn default() -> Self { Self([0; $len]) }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl $crate::xdr::Pack<$crate::xdr::Writer> for $name {
            fn pack(&self, out: &mut $crate::xdr::Writer) -> $crate::xdr::Result<usize> {
                std::io::Write::write_all(out, &self.0)?;
                Ok($len)
            }
        }

        impl $crate::xdr::Unpack<$crate::xdr::Reader> for $name {
            fn unpack(input: &mut $crate::xdr::Reader) -> $crate::xdr::Result<(Self, usize)> {
                Ok((Self(input.take_array()?), $len))
            }
        }
    )+};
}
