//! Where a table starts and ends, by each mode that the options know.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn clock_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A time after everything written before, and before everything written later.
fn moment() -> i64 {
    let after = clock_ms() + 1;
    while clock_ms() <= after {
        std::thread::yield_now();
    }
    after
}

impl Fixture {
    /// All rows, partition and offset, sorted.
    fn places(&self) -> Vec<(i32, i64)> {
        let mut reader = self.open(0, 1, None).unwrap();
        let mut places: Vec<_> = self.read_all(reader.as_mut()).into_iter().map(|(_, p, o)| (p, o)).collect();
        places.sort_unstable();
        places
    }
}

#[test]
fn specific_offsets_say_where_to_start_and_what_is_not_named_is_read_from_its_beginning() {
    let Some(mut fixture) = Fixture::new("specific_offsets_say", 2) else { return };
    fixture.write(0, 0..6);
    fixture.write(1, 0..3);
    fixture.table.startup = KafkaStart::SpecificOffsets { offsets: [(0, 4)].into() };
    assert_eq!(fixture.places(), [(0, 4), (0, 5), (1, 0), (1, 1), (1, 2)]);
    fixture.table.bounded = Some(KafkaEnd::SpecificOffsets { offsets: [(0, 5), (1, 2)].into() });
    assert_eq!(fixture.places(), [(0, 4), (1, 0), (1, 1)]);
}

#[test]
fn times_say_where_to_start_and_where_to_end() {
    let Some(mut fixture) = Fixture::new("times_say", 1) else { return };
    fixture.write(0, 0..3);
    let first = moment();
    fixture.write(0, 3..5);
    let second = moment();
    fixture.write(0, 5..9);
    fixture.table.startup = KafkaStart::Timestamp { millis: first };
    assert_eq!(fixture.places(), (3..9).map(|o| (0, o)).collect::<Vec<_>>());
    fixture.table.bounded = Some(KafkaEnd::Timestamp { millis: second });
    assert_eq!(fixture.places(), [(0, 3), (0, 4)]);
    // Nothing is that new: the end of the topic.
    fixture.table.startup = KafkaStart::Timestamp { millis: moment() };
    fixture.table.bounded = Some(KafkaEnd::LatestOffset);
    assert_eq!(fixture.places(), []);
}

#[test]
fn a_groups_offsets_say_where_to_end() {
    let Some(mut fixture) = Fixture::new("a_groups_offsets_say", 2) else { return };
    fixture.write(0, 0..6);
    fixture.write(1, 0..3);
    let group = format!("group-{}", unique());
    fixture.table.properties.insert("group.id".to_owned(), group.clone());
    let connection = Connection::new(&fixture.table.properties, KafkaClient::Consumer, "test").unwrap();
    let mut admin = Admin::new(connection.config).unwrap();
    let at = |partition| TopicPartition { topic: fixture.topic.name.clone(), partition };
    let offsets = [(at(0), 2), (at(1), 1)].into();
    admin.commit_group_offsets(&group, &offsets, Deadline::after(PATIENCE)).unwrap();
    fixture.table.bounded = Some(KafkaEnd::GroupOffsets);
    assert_eq!(fixture.places(), [(0, 0), (0, 1), (1, 0)]);
}

#[test]
fn several_topics_are_read_as_one_table() {
    let Some(mut fixture) = Fixture::new("several_topics", 1) else { return };
    let other = TestTopic::new(&fixture.bootstrap, "other", 2, &[]);
    fixture.table.topics.push(other.name.clone());
    fixture.write(0, 0..3);
    write(&fixture.bootstrap, &other.name, 1, &[(None, Some("{\"n\":10}"))]);
    let mut numbers = Vec::new();
    let mut splits = 0;
    for index in 0..2 {
        let mut reader = fixture.open(index, 2, None).unwrap();
        numbers.extend(fixture.read_all(reader.as_mut()).into_iter().map(|row| row.0));
        splits += reader.splits().len();
    }
    numbers.sort_unstable();
    assert_eq!((numbers, splits), (vec![0, 1, 2, 10], 3));
}

#[test]
fn a_table_that_ends_keeps_its_end_and_its_partitions_over_a_restart() {
    let Some(mut fixture) = Fixture::new("a_table_that_ends", 1) else { return };
    fixture.write(0, 0..9);
    fixture.table.bounded = Some(KafkaEnd::SpecificOffsets { offsets: [(0, 5)].into() });
    let mut reader = fixture.open(0, 1, None).unwrap();
    let rows = fixture.read(reader.as_mut(), 2, |reader, _| {
        // The four records behind the end are none that wait.
        assert!(reader.lag_records().unwrap() <= 5);
        reader.finished()
    });
    assert_eq!((rows.len(), reader.lag_records()), (5, Some(0)));
    let start = fixture.open(0, 1, None).unwrap().splits();
    fixture.topic.grow_to(2);
    fixture.write(1, 0..3);
    let mut reader = fixture.open(0, 1, Some(&start)).unwrap();
    assert_eq!(fixture.read_all(reader.as_mut()).len(), 5);
    assert_eq!(reader.splits().len(), 1);
}
