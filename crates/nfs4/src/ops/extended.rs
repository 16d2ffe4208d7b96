//! Extended attributes (RFC 8276 §8.4). Names are without the `user.` prefix that Linux shows.

use crate::types::ChangeInfo4;
use crate::xdr::{List, Opaque};

xdr_enum! {
    /// `setxattr_option4`.
    pub enum SetxattrOption4 { Either = 0, Create = 1, Replace = 2 }
}

xdr_struct! {
    /// GETXATTR arguments.
    pub struct Getxattr4args {
        /// The name.
        pub gxa_name: Opaque,
    }
    /// GETXATTR result.
    pub struct Getxattr4resok {
        /// The value.
        pub gxr_value: Opaque,
    }
    /// SETXATTR arguments.
    pub struct Setxattr4args {
        /// Whether it may or must exist.
        pub sxa_option: SetxattrOption4,
        /// The name.
        pub sxa_key: Opaque,
        /// The value.
        pub sxa_value: Opaque,
    }
    /// SETXATTR and REMOVEXATTR result.
    pub struct XattrChange4resok {
        /// The file's change.
        pub info: ChangeInfo4,
    }
    /// LISTXATTRS arguments.
    pub struct Listxattrs4args {
        /// Where to go on: 0 is the start.
        pub lxa_cookie: u64,
        /// Most bytes of names.
        pub lxa_maxcount: u32,
    }
    /// LISTXATTRS result.
    pub struct Listxattrs4resok {
        /// Where to go on.
        pub lxr_cookie: u64,
        /// The names.
        pub lxr_names: List<Opaque>,
        /// Whether that is all.
        pub lxr_eof: bool,
    }
    /// REMOVEXATTR arguments.
    pub struct Removexattr4args {
        /// The name.
        pub rxa_name: Opaque,
    }
}
