//! Short names on screen: the first letters of an id, in hex so that none begins with a dash.

use postern_protocol::ids::MessageId;

/// How many letters are shown.
pub const SHORT: usize = 8;

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What people see of an id.
pub fn short(bytes: &[u8]) -> String {
    let mut text = hex(bytes);
    text.truncate(SHORT);
    text
}

/// The name of a message everywhere in the profile and on screen.
pub fn of_message(id: &MessageId) -> String {
    hex(&id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_the_beginning_of_the_long_one() {
        assert_eq!(hex(&[0, 0xff, 0x1e]), "00ff1e");
        assert_eq!(short(&[0xab; 32]), "abababab");
    }
}
