//! Whole and damaged savepoints.

use std::path::{Path, PathBuf};

use super::*;
use crate::fixture::Fixture;

fn objects(folder: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(folder.join("state")).unwrap().map(|entry| entry.unwrap().path());
    folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[tokio::test]
async fn a_shared_object_is_read_once_and_its_damage_is_that_of_all_who_name_it() {
    let fixture = Fixture::new(&[vec![(1, Some("a")), (2, Some("b"))], vec![(3, Some("c"))]]).await;
    let mut newer = fixture.stored.clone();
    let manifest = std::sync::Arc::make_mut(&mut newer.manifest);
    // The older one does not have the second segment.
    let mut older = fixture.stored.clone();
    std::sync::Arc::make_mut(&mut older.manifest).tables[0].segments.truncate(1);
    // After a change of parallelism a manifest names an object twice.
    let again = manifest.tables[0].segments[1].clone();
    manifest.tables[0].segments.push(again);
    let mut seen = Vec::new();
    let both = [older, newer];
    let answers = verify(&both, |progress| seen.push(progress)).await.unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].bytes, seen[1].bytes_total);
    assert_eq!(answers.iter().map(|a| (a.objects, a.is_whole())).collect::<Vec<_>>(), [(1, true), (2, true)]);

    let segment = &both[1].manifest.tables[0].segments[0];
    let SegmentContent::Object(object) = &segment.content else { panic!("no object") };
    let file = objects(fixture.folder.path()).into_iter().find(|file| file.ends_with(&object.path[9..])).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let answers = verify(&both, |_| {}).await.unwrap();
    for answer in &answers {
        assert_eq!(answer.damages.len(), 1, "{answer:?}");
        assert!(answer.damages[0].reason.contains(&object.path), "{answer:?}");
        assert!(answer.damages[0].reason.contains("its crc32c is"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_segment_that_counts_for_no_key_group_of_the_job_is_damage() {
    let fixture = Fixture::new(&[vec![(1, Some("a"))]]).await;
    let mut stored = fixture.stored.clone();
    let segment = &mut std::sync::Arc::make_mut(&mut stored.manifest).tables[0].segments[0];
    segment.end_group = 9;
    let first = segment.first_group;
    let damages = verify(&[stored], |_| {}).await.unwrap().remove(0).damages;
    assert_eq!(damages[0].reason, format!("a segment of epoch 0 counts for key groups {first} to 9 of 8"));
}
