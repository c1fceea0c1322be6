//! Data of which no state is recorded.

use super::*;

#[test]
fn data_that_says_nothing_is_named_with_the_command_that_mends_it() {
    let (mut store, _) = machine();
    let text = |more: &str| format!("dataset = \"data\"\nstate = \"7\"\n{more}");
    declare(&mut store, "shop", &text(""));
    assert_eq!(get(&store, None).unwrap().unlabelled, []);
    declare(&mut store, "mail", &text(""));
    declare(&mut store, "broken", "dataset =");
    let listing = get(&store, None).unwrap();
    assert_eq!(listing.unlabelled.len(), 1);
    let shown = listing.to_string();
    assert!(
        shown.ends_with("'backstay state set mail 7'\n") && shown.contains("nothing goes back"),
        "{shown}"
    );
    assert_eq!(get(&store, Some(&shop())).unwrap().unlabelled, []);
    let error = get(&store, Some(&app("mail"))).unwrap_err().to_string();
    assert!(error.contains("'backstay state set mail 7'"), "{error}");
    let error = histories(&store, &app("none")).unwrap_err().to_string();
    assert!(error.contains("'backstay state set none STATE'"), "{error}");
    declare(&mut store, "mail", &text("reads-unknown = true\n"));
    let shown = get(&store, None).unwrap().to_string();
    assert!(shown.contains("which this version lives with"), "{shown}");
    // What it says makes it quiet.
    let place = dataset::of(&store, &app("mail"), None).unwrap();
    set(&mut store, place, &app("mail"), &word("7"), 1).unwrap();
    assert_eq!(get(&store, None).unwrap().unlabelled, []);
}
