//! What a job relies on, the same for every store.

use crate::places::{self, Place};
use bytes::Bytes;
use millstream_store::{PutOutcome, StoreErrorKind, probe};
use std::sync::Arc;
use tokio::task::JoinSet;

const RACERS: usize = 20;
const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_writers_exactly_one_creates_the_object() {
    for Place { store, .. } in &places::all("store::races").await {
        for round in 0..ROUNDS {
            let path = format!("log/{round:08}");
            let mut racers = JoinSet::new();
            for racer in 0..RACERS {
                let (store, path) = (Arc::clone(store), path.clone());
                racers.spawn(async move {
                    let mine = Bytes::from(format!("racer {racer}"));
                    (store.put_if_absent(&path, mine.clone()).await.unwrap(), mine)
                });
            }
            let outcomes = racers.join_all().await;
            let winners: Vec<_> = outcomes.iter().filter(|(outcome, _)| *outcome == PutOutcome::Created).collect();
            assert_eq!(winners.len(), 1, "{} round {round}", store.describe());
            assert_eq!(store.get(&path).await.unwrap(), winners[0].1, "{}", store.describe());
        }
    }
}

#[tokio::test]
async fn a_conditional_put_changes_nothing_that_exists() {
    for Place { store, .. } in &places::all("store::overwrites").await {
        let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second, longer"));
        assert_eq!(store.put_if_absent("a/b", first.clone()).await.unwrap(), PutOutcome::Created);
        assert_eq!(store.put_if_absent("a/b", second.clone()).await.unwrap(), PutOutcome::Exists);
        assert_eq!(store.get("a/b").await.unwrap(), first, "{}", store.describe());
        // Deleted, the name is free again: the log must see to it that the last entry stays.
        store.delete(&["a/b".to_owned()]).await.unwrap();
        assert_eq!(store.put_if_absent("a/b", second.clone()).await.unwrap(), PutOutcome::Created);
        assert_eq!(store.get("a/b").await.unwrap(), second, "{}", store.describe());
    }
}

#[tokio::test]
async fn objects_of_any_size_come_back_as_they_were() {
    for Place { store, .. } in &places::all("store::sizes").await {
        const MIB: usize = 1024 * 1024;
        for size in [0, 1, 1000, 5 * MIB, 16 * MIB, 16 * MIB + 1, 50 * MIB + 7] {
            let path = format!("sizes/{size}");
            let data: Bytes = (0..size).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect::<Vec<_>>().into();
            store.put(&path, data.clone()).await.unwrap();
            assert!(store.get(&path).await.unwrap() == data, "{} {size} bytes", store.describe());
            let listed = store.list(&path, None).await.unwrap();
            assert_eq!(listed[0].bytes, size as u64, "{}", store.describe());
            assert!(listed[0].modified_ms > 1_600_000_000_000, "{} {:?}", store.describe(), listed[0]);
            store.delete(&[path]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_part_of_an_object_ends_where_the_object_does() {
    for Place { store, .. } in &places::all("store::parts").await {
        let describe = store.describe();
        let data: Bytes = (0..100_000_u32).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect::<Vec<_>>().into();
        store.put("part/full", data.clone()).await.unwrap();
        store.put("part/empty", Bytes::new()).await.unwrap();
        for (offset, bytes_max) in [(0, 1), (0, 100_000), (0, 200_000), (7, 0), (99_000, 5_000), (99_999, 1)] {
            let part = store.get_part("part/full", offset as u64, bytes_max).await.unwrap();
            let expected = data.slice(offset..(offset + bytes_max).min(data.len()));
            assert!(part == expected, "{describe} {bytes_max} from {offset}: {} bytes", part.len());
        }
        for (path, offset) in [("part/full", 100_000), ("part/full", 300_000), ("part/empty", 0)] {
            assert!(store.get_part(path, offset, 10).await.unwrap().is_empty(), "{describe} {path} from {offset}");
        }
        let missing = store.get_part("part/none", 0, 10).await.unwrap_err();
        assert_eq!(missing.kind, StoreErrorKind::NotFound, "{describe}");
        store.delete(&["part/full", "part/empty"].map(str::to_owned)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_complete_and_in_order_also_beyond_one_page() {
    const COUNT: usize = 1_203;
    for Place { store, .. } in &places::all("store::listings").await {
        let mut names: Vec<String> = (0..COUNT).map(|i| format!("seg/{:05}", i * 7 % COUNT)).collect();
        names.extend(["seg-other/1", "seg.x", "seg/00010/below", "se"].map(str::to_owned));
        // On a file system `seg/00010` cannot be both a file and a folder.
        names.retain(|name| name != "seg/00010");
        for batch in names.chunks(50) {
            let puts = batch.iter().map(|name| (Arc::clone(store), name.clone()));
            let puts: JoinSet<_> =
                puts.map(|(store, name)| async move { store.put(&name, Bytes::new()).await.unwrap() }).collect();
            puts.join_all().await;
        }
        names.sort();
        let describe = store.describe();
        let list = async |prefix: &str, after: Option<&str>| -> Vec<String> {
            store.list(prefix, after).await.unwrap().into_iter().map(|object| object.path).collect()
        };
        let expect = |prefix: &str, after: &str| -> Vec<String> {
            names.iter().filter(|name| name.starts_with(prefix) && name.as_str() > after).cloned().collect()
        };
        assert_eq!(list("", None).await, names, "{describe}");
        for (prefix, after) in [("seg/", ""), ("seg", ""), ("seg/000", ""), ("seg/", "seg/00600"), ("nothing", "")] {
            let found = list(prefix, (!after.is_empty()).then_some(after)).await;
            assert_eq!(found, expect(prefix, after), "{describe} prefix {prefix:?} after {after:?}");
        }
        assert_eq!(list("seg/", Some("seg/99999")).await, Vec::<String>::new(), "{describe}");

        store.delete(&names).await.unwrap();
        assert_eq!(list("", None).await, Vec::<String>::new(), "{describe}");
    }
}

#[tokio::test]
async fn odd_names_work_and_bad_ones_are_refused_alike() {
    for Place { store, .. } in &places::all("store::names").await {
        let describe = store.describe();
        let odd =
            ["a b", "a+b", "a%2Fb", "ä/ö ü", "a&b=c?d#e", "x/..y/...", "~/$(x)`'\"", "日本/語", "a/b/c/d/e/f/g/h"];
        for name in odd {
            store.put(name, Bytes::from(name)).await.unwrap();
        }
        for name in odd {
            assert_eq!(store.get(name).await.unwrap(), Bytes::from(name), "{describe} {name}");
        }
        let mut listed: Vec<_> = store.list("", None).await.unwrap().into_iter().map(|object| object.path).collect();
        let mut expected = odd.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(listed, expected, "{describe}");
        store.delete(&listed).await.unwrap();
        listed = store.list("", None).await.unwrap().into_iter().map(|object| object.path).collect();
        assert!(listed.is_empty(), "{describe} {listed:?}");

        for name in ["", "/a", "a//b", "../a", "a/./b", "a\nb"] {
            let error = store.put(name, Bytes::new()).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Configuration, "{describe} {name:?}");
        }
    }
}

#[tokio::test]
async fn what_is_deleted_or_never_was_is_not_found_and_deleted_without_complaint() {
    for Place { store, .. } in &places::all("store::deleted").await {
        let describe = store.describe();
        assert_eq!(store.get("x/never").await.unwrap_err().kind, StoreErrorKind::NotFound, "{describe}");
        store.put("x/y", Bytes::from_static(b"1")).await.unwrap();
        let names = ["x/y", "x/never", "z"].map(str::to_owned);
        store.delete(&names).await.unwrap();
        store.delete(&names).await.unwrap();
        store.delete(&[]).await.unwrap();
        let error = store.get("x/y").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NotFound, "{describe}");
        assert!(error.to_string().contains("x/y"), "{error}");
    }
}

#[tokio::test]
async fn the_probe_passes_and_leaves_nothing_behind() {
    for Place { store, .. } in &places::all("store::probe").await {
        probe(store.as_ref()).await.unwrap();
        assert!(store.list("", None).await.unwrap().is_empty(), "{}", store.describe());
    }
}
