use super::*;
pub fn export(_: &Counters) -> Result<crate::state::Piece, crate::state::StateError> {
    todo!()
}
