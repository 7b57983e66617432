package peers;

import java.nio.file.Path;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;

/** A message becomes a row with its features but the window's. The row is reused: objects are (see FlinkPeer). */
public final class Parse extends RichMapFunction<byte[], Row> {
  private final String tables, destinations;
  private transient Features features;
  private transient Row row;

  public Parse(String tables, String destinations) {
    this.tables = tables;
    this.destinations = destinations;
  }

  @Override
  public void open(OpenContext context) {
    features = new Features(Path.of(tables), Path.of(destinations));
    row = new Row();
  }

  @Override
  public Row map(byte[] message) throws Exception {
    row.read(message);
    features.fill(row);
    return row;
  }
}
