// What the browser remembers of its reader. Some browsers refuse to: then each page begins anew.

export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It holds for this page.
  }
}
