//! Reads what `images/store/inspect.sh` prints. Anything unexpected is an error: a disk that was misread
//! must not look as if it were right.

use std::collections::{BTreeMap, HashMap};

use super::{Entry, Subvolume, Tree};

type Result<T> = std::result::Result<T, String>;

/// Reads the whole output.
pub fn tree(output: &str) -> Result<Tree> {
    let sections = sections(output);
    let section = |name: &str| {
        sections
            .get(name)
            .copied()
            .ok_or_else(|| format!("the output has no section {name}"))
    };
    let superblock = section("superblock")?;
    let mut files = files(section("files")?)?;
    add_digests(&mut files, section("digests")?)?;
    add_attributes(&mut files, section("attributes")?)?;
    Ok(Tree {
        log_root: superblock_field(superblock, "log_root")?,
        generation: superblock_field(superblock, "generation")?,
        subvolumes: subvolumes(section("roots")?, section("paths")?)?,
        files,
    })
}

fn sections(output: &str) -> HashMap<&str, &str> {
    let mut sections = HashMap::new();
    for part in output.split("\0section ").skip(1) {
        if let Some((name, body)) = part.split_once('\0') {
            sections.insert(name, body);
        }
    }
    sections
}

fn superblock_field(text: &str, name: &str) -> Result<u64> {
    let words = text.lines().map(str::split_whitespace);
    for mut line in words {
        if line.next() == Some(name) {
            return number(line.next(), name);
        }
    }
    Err(format!("the superblock shows no {name}"))
}

fn number<T: std::str::FromStr>(text: Option<&str>, what: &str) -> Result<T> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{what} is no number: {}", text.unwrap_or("nothing")))
}

/// Joins the items of the root tree (identity) with the list of paths (which leaves out deleted ones).
fn subvolumes(roots: &str, paths: &str) -> Result<BTreeMap<String, Subvolume>> {
    let mut items: HashMap<u64, Subvolume> = root_items(roots)?;
    let mut found = BTreeMap::new();
    for line in paths.lines() {
        let (head, path) = line
            .split_once(" path ")
            .ok_or_else(|| format!("no path in the line '{line}'"))?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let field = |name| {
            let at = words.iter().position(|word| *word == name);
            number(at.and_then(|at| words.get(at + 1)).copied(), name)
        };
        let id = field("ID")?;
        let mut subvolume = items
            .remove(&id)
            .ok_or_else(|| format!("the root tree has no item of subvolume {id}"))?;
        subvolume.nested_in = field("parent")?;
        let path = path.strip_prefix("<FS_TREE>/").unwrap_or(path);
        found.insert(path.to_owned(), subvolume);
    }
    Ok(found)
}

/// The ROOT_ITEMs of `btrfs inspect-internal dump-tree -t root`: a line of the key, then lines of
/// names and values.
fn root_items(text: &str) -> Result<HashMap<u64, Subvolume>> {
    let mut items = HashMap::new();
    let mut current: Option<u64> = None;
    for line in text.lines() {
        let item = line.trim_start().strip_prefix("item ");
        if let Some((_, key)) = item.and_then(|item| item.split_once(" key (")) {
            let mut key = key.split_whitespace();
            let id = key.next().and_then(|id| id.parse::<u64>().ok());
            current = id.filter(|_| key.next() == Some("ROOT_ITEM"));
            if let Some(id) = current {
                items.insert(id, empty(id));
            }
            continue;
        }
        let Some(subvolume) = current.and_then(|id| items.get_mut(&id)) else {
            continue;
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let [name, value] = pair else { continue };
            match *name {
                "generation" => subvolume.generation = number(Some(value), name)?,
                "ctransid" => subvolume.ctransid = number(Some(value), name)?,
                "otransid" => subvolume.otransid = number(Some(value), name)?,
                "flags" => subvolume.read_only = value.contains("RDONLY"),
                "uuid" => subvolume.uuid = uuid(value),
                "parent_uuid" => subvolume.parent_uuid = uuid(value),
                "received_uuid" => subvolume.received_uuid = uuid(value),
                _ => {}
            }
        }
    }
    Ok(items)
}

fn empty(id: u64) -> Subvolume {
    Subvolume {
        id,
        nested_in: 0,
        uuid: None,
        parent_uuid: None,
        received_uuid: None,
        read_only: false,
        generation: 0,
        ctransid: 0,
        otransid: 0,
    }
}

fn uuid(text: &str) -> Option<String> {
    text.bytes()
        .any(|byte| !matches!(byte, b'0' | b'-'))
        .then(|| text.to_owned())
}

/// find begins each path of a whole listing with `./`.
fn path_of(text: &str) -> &str {
    text.strip_prefix("./").unwrap_or(text)
}

fn files(text: &str) -> Result<BTreeMap<String, Entry>> {
    let mut files = BTreeMap::new();
    for record in text.split('\0').filter(|record| !record.is_empty()) {
        let mut fields = record.splitn(7, '\t');
        let mut field = || {
            fields
                .next()
                .ok_or_else(|| format!("a record of a file is short: {record}"))
        };
        let kind = field()?.chars().next().unwrap_or('?');
        let mode =
            u32::from_str_radix(field()?, 8).map_err(|error| format!("{record}: {error}"))?;
        let user = number(Some(field()?), "user")?;
        let group = number(Some(field()?), "group")?;
        let size = number(Some(field()?), "size")?;
        let (path, target) = (field()?, field()?);
        let entry = Entry {
            kind,
            mode,
            user,
            group,
            size: if kind == 'd' { 0 } else { size },
            target: target.to_owned(),
            sha256: String::new(),
            attributes: BTreeMap::new(),
        };
        files.insert(path_of(path).to_owned(), entry);
    }
    Ok(files)
}

fn add_digests(files: &mut BTreeMap<String, Entry>, text: &str) -> Result<()> {
    for record in text.split('\0').filter(|record| !record.is_empty()) {
        let (digest, path) = record
            .split_once("  ")
            .ok_or_else(|| format!("not a digest: {record}"))?;
        entry(files, path_of(path))?.sha256 = digest.to_owned();
    }
    match files
        .iter()
        .find(|(_, entry)| entry.kind == 'f' && entry.sha256.is_empty())
    {
        Some((path, _)) => Err(format!("no digest of {path}")),
        None => Ok(()),
    }
}

/// getfattr's dump: `# file: PATH`, lines of `name=0x…`, an empty line.
fn add_attributes(files: &mut BTreeMap<String, Entry>, text: &str) -> Result<()> {
    let mut path = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# file: ") {
            path = Some(name);
        } else if line.is_empty() {
            path = None;
        } else {
            let name = path.ok_or_else(|| format!("an attribute of nothing: {line}"))?;
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let of = entry(files, path_of(name))?;
            of.attributes.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

fn entry<'a>(files: &'a mut BTreeMap<String, Entry>, path: &str) -> Result<&'a mut Entry> {
    files
        .get_mut(path)
        .ok_or_else(|| format!("{path} was not listed, yet something is said of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\0section superblock\0\
generation\t\t11\nchunk_root_generation\t9\nlog_root\t\t30523392\nlog_root_level\t\t0\n\
\0section roots\0\
\titem 3 key (FS_TREE ROOT_ITEM 0) itemoff 14949 itemsize 439\n\t\tgeneration 9 root_dirid 256 bytenr 1\n\
\titem 20 key (260 ROOT_ITEM 11) itemoff 1 itemsize 439\n\
\t\tgeneration 12 root_dirid 256 bytenr 30605312 byte_limit 0\n\
\t\tlast_snapshot 11 flags 0x1(RDONLY) refs 1\n\
\t\tdrop_progress key (0 UNKNOWN.0 0) drop_level 0\n\
\t\tuuid 5a000000-0000-0000-0000-000000000001\n\
\t\tparent_uuid 5a000000-0000-0000-0000-000000000002\n\
\t\treceived_uuid 00000000-0000-0000-0000-000000000000\n\
\t\tctransid 8 otransid 7 stransid 0 rtransid 0\n\
\titem 21 key (260 ROOT_BACKREF 259) itemoff 1 itemsize 20\n\t\troot backref key dirid 256 sequence 2 name s1\n\
\titem 22 key (261 ROOT_ITEM 0) itemoff 1 itemsize 439\n\t\tlast_snapshot 0 flags 0x0(none) refs 0\n\
\0section paths\0ID 260 gen 12 parent 259 top level 259 path <FS_TREE>/@backstay/s 1\n\
\0section files\0d\t755\t0\t0\t6\t.\t\0f\t4755\t0\t5\t2\t./@config/a b\t\0l\t777\t0\t0\t1\t./@config/l\ta b\0\
\0section digests\0abc  ./@config/a b\0\
\0section attributes\0# file: @config/a b\nuser.x=0x31\n\n";

    #[test]
    fn a_whole_output_is_read() {
        let tree = tree(OUTPUT).unwrap();
        assert_eq!((tree.log_root, tree.generation), (30_523_392, 11));
        assert_eq!(tree.subvolumes.len(), 1);
        assert_eq!(
            tree.to_string(),
            "superblock log_root=30523392 generation=11\n\
             @backstay/s 1 subvolume id=260 in=259 ro uuid=5a000000-0000-0000-0000-000000000001 \
             parent=5a000000-0000-0000-0000-000000000002 received=- generation=12 ctransid=8 otransid=7\n\
             . d 0755 0:0 0\n\
             @config/a b f 4755 0:5 2 abc user.x=0x31\n\
             @config/l l 0777 0:0 1 -> a b\n"
        );
    }

    #[test]
    fn what_is_missing_or_contradictory_is_an_error() {
        for (from, to, reason) in [
            ("\0section paths\0", "\0section path\0", "no section paths"),
            (
                "log_root\t\t30523392",
                "log_root\t\tx",
                "log_root is no number",
            ),
            ("ID 260", "ID 270", "no item of subvolume 270"),
            ("abc  ./@config/a b", "abc  ./@config/c", "was not listed"),
            ("abc  ./@config/a b\0", "", "no digest of @config/a b"),
            ("\t5\t2\t./@config/a b\t\0", "\t5\0", "is short"),
        ] {
            let error = tree(&OUTPUT.replace(from, to)).unwrap_err();
            assert!(error.contains(reason), "{from:?}: {error}");
        }
    }

    #[test]
    fn changes_name_what_is_gone_new_and_different() {
        let before = tree(OUTPUT).unwrap();
        let mut after = before.clone();
        assert!(after.changes_since(&before).is_empty());
        after.files.remove("@config/l");
        after.files.get_mut("@config/a b").unwrap().mode = 0o644;
        let lines = after.changes_since(&before);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.contains(&"- @config/l l 0777 0:0 1 -> a b".to_owned()));
    }
}
