//! The states that data went through, as scripts say them and as changes leave them.

use super::*;

#[test]
fn the_history_of_an_application_is_bounded_and_of_each_dataset() {
    let (mut store, _) = machine();
    for n in 0..300_u64 {
        set(&mut store, DATA, &shop(), &word(&format!("{}", 10 + n)), n).unwrap();
    }
    let bytes = store.label(DATA, "history.shop").unwrap().unwrap();
    assert!(bytes.len() <= label::MAX && bytes.len() > label::MAX / 2);
    assert_eq!(
        changes(&store).last(),
        Some(&(299, "308".into(), "309".into()))
    );
    set(&mut store, CONFIG, &shop(), &word("1"), 1).unwrap();
    let all = histories(&store, &shop()).unwrap();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["config", "data"]);
    assert!(histories(&store, &app("other")).is_err());
}

#[test]
fn a_state_is_since_the_converter_of_a_change_that_led_there() {
    let (mut store, _) = machine();
    let lines = b"60 1 2 3 live up\n";
    store
        .set_label(DATA, "history.shop", Some(&lines[..]))
        .unwrap();
    let kept = kept(&store, DATA, shop()).unwrap();
    assert_eq!(kept.since.as_deref(), Some("1970-01-01T00:01:00Z"));
    // What a script does since is remembered besides.
    start(&mut store, "2", "3").unwrap();
    commit(&mut store, DATA, &shop(), 180).unwrap();
    let all = history::read(&store, DATA, shop().name()).unwrap();
    assert_eq!((all.len(), all[1].by.is_none(), all[1].at), (2, true, 180));
    start(&mut store, "3", "2").unwrap();
    abort(&mut store, DATA, &shop()).unwrap();
    let again = history::read(&store, DATA, shop().name()).unwrap();
    assert_eq!(again, all);
}
