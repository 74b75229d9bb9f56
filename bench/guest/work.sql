-- A table, an index, a join, groups, updates; rows come from arithmetic.
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, i * 7919 % 997, printf('item-%06x', i * 40503 % 65536), i * 31 % 10007 / 7.0 FROM n;
CREATE INDEX item_name ON item(name, kind);
CREATE TABLE kind(id INTEGER PRIMARY KEY, title TEXT);
INSERT INTO kind SELECT DISTINCT kind, upper(hex(kind)) FROM item;
SELECT count(*), sum(length(name)), round(avg(price), 3) FROM item WHERE name LIKE 'item-00a%';
SELECT k.title, count(*), round(sum(i.price), 2) FROM item i JOIN kind k ON k.id = i.kind
GROUP BY k.title HAVING count(*) > 20 ORDER BY 3 DESC, 1 LIMIT 20;
UPDATE item SET price = price * 1.07, name = name || '-x' WHERE kind % 3 = 1;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id < b.id;
DELETE FROM item WHERE name GLOB '*[0-4]-x';
SELECT count(*), min(name), max(name), round(sum(price), 2) FROM item;
