//! From EXCHANGE_ID to DESTROY_CLIENTID.

use nfs4::attr::number;
use nfs4::compound::Resop4;
use nfs4::ops::dir::Createtype4;
use nfs4::ops::open::Openflag4;
use nfs4::types::{StableHow4, Stateid4, Verifier4};

use crate::driver::*;

/// RFC 8881 §2.10, §18.35, §18.36, §18.16, §18.32, §18.22, §18.23, §18.2, §18.37, §18.50.
#[test]
fn a_client_mounts_writes_reads_lists_and_unmounts_without_a_mistake() {
    for mut world in [World::full(), World::s3files()] {
        let mut client = world.client("c");
        let (file, open) = world.create_file(&mut client, "f");
        world.write(&mut client, &file, open, 0, b"hello world");
        assert_eq!(world.read(&mut client, &file, open, 6, 100), b"world");
        ok(world.call(
            &mut client,
            vec![
                putfh(&file),
                write(Stateid4 { seqid: 0, ..open }, 11, b"!", StableHow4::Unstable4),
                commit(0, 0),
                getattr(&[number::SIZE, number::CHANGE]),
            ],
        ));
        let dir = world.mkdir(&mut client, "d");
        ok(world.call(&mut client, vec![putfh(&dir), create(Createtype4::Lnk("../f".into()), "l")]));
        let listing = ok(world.call(
            &mut client,
            vec![
                nfs4::compound::Argop4::Putrootfh,
                readdir(0, Verifier4::default(), 8192, &[number::FILEID, number::SIZE]),
            ],
        ));
        let Resop4::Readdir(Ok(done)) = &listing[1] else { panic!("{listing:?}") };
        let names: Vec<_> = done.reply.entries.iter().map(|entry| entry.name.to_vec()).collect();
        assert_eq!(names, [b"f".to_vec(), b"d".to_vec()]);
        assert!(done.reply.eof);
        world.close(&mut client, &file, open);
        let (again, open) = world.open(&mut client, "f", 1, Openflag4::NoCreate);
        assert_eq!(again, file);
        assert_eq!(world.read(&mut client, &file, open, 0, 100), b"hello world!");
        world.close(&mut client, &file, open);
        world.leave(&mut client);
        world.nobody_is_accused();
    }
}
