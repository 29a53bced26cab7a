//! Shares and verdicts.

use super::*;
use crate::fixture::{Fixture, KEY_GROUPS};

fn size(bytes: u64) -> GroupSize {
    GroupSize { rows: bytes / 10, bytes }
}

async fn table() -> StoredTable {
    StoredTable::all(&Fixture::new(&[]).await.stored).remove(0)
}

async fn found(groups: [u64; KEY_GROUPS as usize], keys: u64, heavy: &[(u16, u64)]) -> TableSkew {
    let groups: Vec<GroupSize> = groups.into_iter().map(size).collect();
    let heavy =
        heavy.iter().map(|(group, bytes)| HeavyKey { group: *group, key: format!("k={bytes}"), size: size(*bytes) });
    TableSkew { table: table().await, total: sum(&groups), keys, heavy: heavy.collect(), groups }
}

#[tokio::test]
async fn a_table_has_a_name_and_each_column_its_own() {
    let table = table().await;
    assert_eq!(table.alias, "totals_groups");
    assert_eq!(table.columns(), ["key_group INT", "namespace BIGINT", "k BIGINT", "text STRING", "K_2 BIGINT"]);
}

#[tokio::test]
async fn the_heaviest_keys_are_found_after_deletions_and_changes() {
    let long = "x".repeat(100);
    let segments = [
        vec![(1, Some("a")), (2, Some(long.as_str())), (3, Some("ccc")), (4, Some(long.as_str()))],
        vec![(1, Some("aaaaa")), (2, None)],
    ];
    let fixture = Fixture::new(&segments).await;
    let found = skew(&fixture.stored, StoredTable::all(&fixture.stored).remove(0), 2).await.unwrap();
    let heavy: Vec<(&str, u64)> = found.heavy.iter().map(|key| (key.key.as_str(), key.size.bytes)).collect();
    // Two numbers of eight bytes beside the text.
    assert_eq!(heavy, [("k=4", 116), ("k=1", 21)]);
    assert_eq!((found.keys, found.total), (3, GroupSize { rows: 3, bytes: 116 + 21 + 19 }));
    let of_group = |key: &HeavyKey| found.groups[usize::from(key.group)];
    assert!(found.heavy.iter().all(|key| of_group(key).bytes >= key.size.bytes));
    assert_eq!(sum(&found.groups), found.total);
}

#[test]
fn shares_follow_the_ranges_of_key_groups() {
    let groups: Vec<GroupSize> = (1..=8).map(|bytes| size(bytes * 10)).collect();
    let bytes = |parallelism| task_shares(&groups, parallelism).iter().map(|s| s.bytes).collect::<Vec<_>>();
    assert_eq!(bytes(1), [360]);
    assert_eq!(bytes(2), [100, 260]);
    // 8 groups in 3 ranges: 0..3, 3..6, 6..8.
    assert_eq!(bytes(3), [60, 150, 150]);
    assert_eq!(bytes(8).iter().sum::<u64>(), 360);
}

#[tokio::test]
async fn the_verdict_names_the_cause() {
    let even = found([100; 8], 1_000, &[(0, 10)]).await;
    assert_eq!(verdict(&even, 4).cause, Cause::Even);
    assert_eq!(verdict(&even, 4).to_string(), "even: task 0 of 4 has 25 % of the bytes, 25 % is its fair share");

    let key = found([100, 100, 100, 1_000, 100, 100, 100, 100], 1_000, &[(3, 900)]).await;
    let said = verdict(&key, 4);
    assert_eq!((said.task, &said.cause), (1, &Cause::Key { key: "k=900".to_owned(), share: 900.0 / 1_700.0 }));
    assert!(said.to_string().contains("the key k=900 alone has 53 %"), "{said}");

    // The heavy group is of many keys.
    let group = found([100, 100, 100, 1_000, 100, 100, 100, 100], 1_000, &[(3, 20)]).await;
    assert!(matches!(verdict(&group, 4).cause, Cause::Group { group: 3, .. }));
    // Nothing stands out, and the heaviest key is in the other task.
    let elsewhere = found([300, 300, 300, 300, 100, 100, 100, 100], 1_000, &[(7, 90)]).await;
    assert_eq!(verdict(&elsewhere, 2).cause, Cause::Chance);

    let few = found([100, 0, 100, 100, 0, 0, 0, 0], 3, &[(0, 100)]).await;
    assert_eq!(verdict(&few, 4).cause, Cause::FewKeys { keys: 3 });
    // Six tasks share eight groups by two or by one.
    assert_eq!(verdict(&even, 6).cause, Cause::Ranges { most: 2, least: 1 });

    let empty = found([0; 8], 0, &[]).await;
    assert_eq!(verdict(&empty, 4).to_string(), "empty");
    assert!(!verdict(&empty, 4).is_skewed() && !verdict(&even, 4).is_skewed() && verdict(&key, 4).is_skewed());
}
