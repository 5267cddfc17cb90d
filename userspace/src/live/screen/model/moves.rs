//! Going into lines and back.

use super::{Left, Model};
use crate::live::screen::{
    cursor::Cursor,
    items::{ItemKey, Scope, View},
    layout::Needs,
};

impl Model {
    pub(super) fn back(&mut self) {
        if self.overlay.take().is_some() {
            return;
        }
        if let Some(before) = self.typing.take() {
            return self.refilter(before);
        }
        match self.trail.pop() {
            Some(Left {
                view,
                scope,
                selected,
            }) => {
                (self.view, self.scope) = (view, scope);
                self.cursor = Cursor::on(selected);
                self.needs = Needs::default();
                self.arrange();
            }
            None => self.refilter(String::new()),
        }
    }

    pub(super) fn enter(&mut self) {
        let Some(item) = self.items.get(self.place()) else {
            return;
        };
        let (key, mut scope) = (item.key.clone(), self.scope.clone());
        let view = match &key {
            ItemKey::Network(network) => {
                scope.network = Some(network.clone());
                View::Cameras
            }
            ItemKey::Camera(camera) => {
                scope.camera = Some(camera.clone());
                View::Flows
            }
            ItemKey::Flow(_) => return,
        };
        let left = Left {
            view: self.view,
            scope: self.scope.clone(),
            selected: Some(key),
        };
        self.trail.push(left);
        (self.view, self.scope) = (view, scope);
        self.anew();
    }

    pub(super) fn show(&mut self, view: View) {
        self.view = view;
        self.scope = Scope::default();
        self.trail.clear();
        self.anew();
    }

    /// Begins at the first line.
    fn anew(&mut self) {
        self.cursor = Cursor::default();
        self.needs = Needs::default();
        self.arrange();
    }
}
