// A bounded list of the newest things and their text: what falls out is reported, so that nothing still holds it.

export class Ring {
  constructor(maxCount, maxChars, forget) {
    Object.assign(this, { maxCount, maxChars, forget, items: [], chars: 0 });
  }

  push(item, chars) {
    this.items.push({ item, chars });
    this.chars += chars;
    let excess = 0;
    let kept = this.chars;
    while (this.items.length - excess > this.maxCount || (kept > this.maxChars && this.items.length - excess > 1)) {
      kept -= this.items[excess++].chars;
    }
    this.chars = kept;
    for (const { item: lost } of this.items.splice(0, excess)) this.forget(lost);
  }

  clear() {
    for (const { item } of this.items.splice(0)) this.forget(item);
    this.chars = 0;
  }

  [Symbol.iterator]() {
    return this.items
      .values()
      .map(({ item }) => item)
      [Symbol.iterator]();
  }
}
