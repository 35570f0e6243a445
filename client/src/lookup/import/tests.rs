use super::*;

fn entries(imported: &Imported) -> Vec<(&str, &str)> {
    imported.entries.iter().map(|entry| (entry.phone.as_str(), entry.name.as_str())).collect()
}

#[test]
fn numbers_and_names_are_read_out_of_vcards() {
    let text = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Zoë Müller\\, Dr.\r\nTEL;TYPE=CELL:+41 79 123 45 67\r\n\
                item1.TEL;type=\"a:b\":tel:+41-79-123-45-68\r\nEND:VCARD\r\n\
                BEGIN:VCARD\r\nVERSION:4.0\r\nN:Keller;Urs;;;\r\nTEL;VALUE=uri:tel:+4179\r\n 1234569\r\nEND:VCARD\r\n\
                BEGIN:VCARD\r\nTEL:+41791234567\r\nEND:VCARD\r\n";
    let imported = parse_contacts(text, Format::Vcf, None).unwrap();
    let expected =
        [("+41791234567", "Zoë Müller, Dr."), ("+41791234568", "Zoë Müller, Dr."), ("+41791234569", "Urs Keller")];
    assert_eq!(entries(&imported), expected);
    assert!(imported.unread.is_empty());
}

#[test]
fn names_of_old_vcards_are_read_too() {
    let text = "BEGIN:VCARD\nVERSION:2.1\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;Zo=\n=C3=AB;;;\n\
                TEL;CELL:+41791234567\nEND:VCARD\nBEGIN:VCARD\nFN:1=1\nTEL:+41791234568\nEND:VCARD\n";
    let imported = parse_contacts(text, Format::Vcf, None).unwrap();
    assert_eq!(entries(&imported), [("+41791234567", "Zoë Müller"), ("+41791234568", "1=1")]);
    assert_eq!(unquote("=zz=4=C3=A4="), "=zz=4ä=");
}

#[test]
fn numbers_and_names_are_read_out_of_tables_with_any_separator() {
    for (s, q) in [(',', ""), (';', "\""), ('\t', "")] {
        let text = format!(
            "Name{s}Birthday{s}Since{s}Mail{s}Phone\n{q}Anna{q}{s}1990-01-02{s}01.02.1990{s}a1234567@b.example{s}+41 79 123 45 67\n"
        );
        let imported = parse_contacts(&text, Format::Csv, None).unwrap();
        assert_eq!(entries(&imported), [("+41791234567", "Anna")], "{s:?}");
        assert!(imported.unread.is_empty());
    }
    let google = "Name,Phone 1\n\"Keller, \"\"Urs\"\"\",+41 79 123 45 67 ::: +41 79 123 45 68\n";
    let imported = parse_contacts(google, Format::Csv, None).unwrap();
    assert_eq!(entries(&imported), [("+41791234567", "Keller, \"Urs\""), ("+41791234568", "Keller, \"Urs\"")]);
}

#[test]
fn national_numbers_need_a_country_and_are_reported_without() {
    let text = "Anna,079 123 45 67\nBeat,0041 79 123 45 68\n";
    let without = parse_contacts(text, Format::Csv, None).unwrap();
    assert_eq!(entries(&without), [("+41791234568", "Beat")]);
    assert_eq!(without.unread, ["079 123 45 67"]);
    let with = parse_contacts(text, Format::Csv, Some("ch")).unwrap();
    assert_eq!(entries(&with), [("+41791234567", "Anna"), ("+41791234568", "Beat")]);
    assert!(matches!(parse_contacts(text, Format::Csv, Some("Helvetia")), Err(Error::Invalid(_))));
}

#[test]
fn a_name_cannot_write_to_the_terminal_and_a_number_that_does_not_exist_is_reported() {
    let imported = parse_contacts("\u{1b}[2JEve,+41791234567\nNobody,+41001234567\n", Format::Csv, None).unwrap();
    assert_eq!(entries(&imported), [("+41791234567", "[2JEve")]);
    assert_eq!(imported.unread, ["+41001234567"]);
}

#[tokio::test]
async fn names_are_kept_and_shown_with_contacts() {
    let town = crate::testing::Town::new();
    let (mut alice, bob) = (town.person("alice", "+41791234567").await, town.person("bob", "+41791234568").await);
    alice.send(&crate::send::Target::Link(bob.card_link().unwrap()), "hello").await.unwrap();
    let imported = alice.import_contacts("Bob,+41791234568\nCarol,+41791234569\n", Format::Csv, None).unwrap();
    assert_eq!(imported.entries.len(), 2);
    let mut alice = town.reopen("alice", alice);
    assert_eq!(alice.name_of("+41791234569").unwrap().as_deref(), Some("Carol"));
    assert_eq!(alice.contacts().unwrap()[0].name.as_deref(), Some("Bob"));
    alice.import_contacts("Bobby,+41791234568\n", Format::Csv, None).unwrap();
    assert_eq!(alice.name_of("+41791234568").unwrap().as_deref(), Some("Bobby"));
}
